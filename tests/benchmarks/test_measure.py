"""A run measures what it says, and writes the same figures everywhere."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console

from benchmarks import measure, plot, report, results
from benchmarks.nets import Net
from benchmarks.sides import Case
from secureimg import graph as g


@pytest.fixture(scope="module")
def tiny() -> Net:
    rng = np.random.default_rng(1)
    builder = g.GraphBuilder("tiny", (1, 6, 6))
    x = builder.conv(builder.input, rng.normal(size=(2, 1, 3, 3)) / 3)
    x = builder.flatten(builder.square(x))
    x = builder.dense(x, rng.normal(size=(3, 32)) / 6, rng.normal(size=3))
    return Net("tiny", builder.build(x), rng.uniform(size=(8, 1, 6, 6)))


@pytest.fixture(scope="module")
def run(tiny) -> results.Run:
    rows, peer = measure.measure_net(tiny, (Case(), Case(batch=2)), repeat=2, peer=None)
    assert peer == []
    return results.Run(tuple(rows), None, {"repeat": 2}, results.machine(), results.versions())


def test_measured_error_is_below_the_predicted_one(run):
    for row in run.rows:
        assert 0 < row.error_max <= row.error_predicted
        assert row.labels_equal == row.labels_total == 2 * row.images


def test_repetitions_and_images_are_counted(run):
    assert [(row.images, row.evaluate.count) for row in run.rows] == [(1, 2), (2, 2)]
    for row in run.rows:
        assert row.evaluate.min <= row.evaluate.median <= row.evaluate.max
        assert row.per_image == pytest.approx(row.evaluate.median / row.images)
        assert row.overhead == pytest.approx(row.evaluate.median / row.plain.median)


def test_parameters_and_bytes_are_those_of_the_program(run):
    for row in run.rows:
        assert len(row.prime_bits) - 1 > row.levels > 0
        assert row.bytes.evaluation_keys > row.bytes.up > row.bytes.down > 0
        assert row.server_peak_rss > row.bytes.evaluation_keys


def test_without_a_peer_there_is_no_ratio(run):
    assert [(row.peer_ratio, row.peer_evaluate) for row in run.rows] == [(None, None)] * 2


def test_json_holds_every_field_of_every_row(run, tmp_path):
    path = tmp_path / "run.json"
    run.save(path)
    read = json.loads(path.read_text())
    assert read["schema"] == results.SCHEMA
    assert set(read) == {"schema", "rows", "peer", "settings", "machine", "versions"}
    fields = set(results.Row.__dataclass_fields__) | {"per_image"}
    assert [set(row) for row in read["rows"]] == [fields, fields]
    assert read["rows"][0]["evaluate"]["median"] == run.rows[0].evaluate.median
    assert read["machine"]["cores"] >= 1
    assert read["versions"]["tenseal"]


def test_every_row_is_in_the_tables_and_in_the_plot(run, tmp_path):
    titles = [row.title for row in run.rows]
    assert len(set(titles)) == len(titles)
    shown = io.StringIO()
    report.show(run, Console(file=shown, width=250))
    picture = tmp_path / "run.svg"
    plot.plot(run, picture)
    assert picture.read_text().startswith("<?xml")
    for text in (shown.getvalue(), report.markdown(run)):
        assert all(title in text for title in titles)


def test_latency_rows_use_one_core_and_two_and_only_the_first_network_is_batched(tiny):
    other = Net("other", tiny.graph, tiny.images)
    todo = [(net.name, cases) for net, cases in measure.turns([tiny, other], 2, batches=True)]
    assert todo[:2] == [(name, (Case(workers=1), Case(workers=2))) for name in ("tiny", "other")]
    assert [name for name, _ in todo[2:]] == ["tiny", "tiny"]
    assert [case.layout for _, cases in todo[2:] for case in cases] == ["slots", "slots", "throughput"]
