"""One small model through real processes; what is finished is not measured again; predictions follow from their formula."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import bench_inside, bench_run
from benchmarks.__main__ import app
from benchmarks.bench_inside import run_job, write_job
from benchmarks.bench_measure import Plan, key_of
from benchmarks.bench_prediction import predicted_total
from benchmarks.bench_results import Report, Row, load_report
from benchmarks.bench_subjects import Given, own_model, suite
from benchmarks.share_network import NETWORKS, Network
from benchmarks.share_onnx import save_onnx
from protocols.cli.options import ModelOptions
from secureimg.graph import GraphBuilder, run_plain

LOOPBACK = NETWORKS["loopback"]


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> list[str]:
    """A model of squares with two pictures, as words of the command."""
    home = tmp_path_factory.mktemp("model")
    rng = np.random.default_rng(1)
    b = GraphBuilder("tiny", (1, 6, 6))
    x = b.flatten(b.square(b.conv(b.input, rng.normal(size=(2, 1, 3, 3)) / 3)))
    save_onnx(b.build(b.dense(x, rng.normal(size=(3, 32)) / 6, rng.normal(size=3))), home / "tiny.onnx")
    np.save(home / "pictures.npy", rng.uniform(size=(2, 1, 6, 6)))
    return [str(home / "tiny.onnx"), str(home / "pictures.npy"), "--repeat", "2", "--network", "loopback"]


@pytest.fixture(scope="module")
def measured(words, tmp_path_factory) -> tuple[Report, Path]:
    out = tmp_path_factory.mktemp("out")
    found = CliRunner().invoke(app, ["bench", *words, "--out", str(out)], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return load_report(out / "bench.json"), out


def row_of(report: Report, executor: str) -> Row:
    [row] = [row for row in report.rows if row.executor == executor]
    return row


def test_every_executor_answers_as_the_plain_model_does(measured):
    report, _ = measured
    assert [row.executor for row in report.rows] == ["plain", "ckks", "shares"]
    for executor in ("ckks", "shares"):
        row = row_of(report, executor)
        assert row.errors is not None
        assert 0 < row.errors.relative < 1e-2
        assert (row.errors.labels_equal, row.errors.labels_total) == (2, 2)
        assert sum(row.errors.counts) == 2 * 3
        assert row.answers == row_of(report, "plain").answers
        assert row.overhead == pytest.approx(row.total.median / row_of(report, "plain").total.median)
        assert row.overhead > 1
    ckks = row_of(report, "ckks").errors
    assert ckks.largest < ckks.bound


def test_phases_bytes_and_memory_are_there_for_each_role(measured):
    report, _ = measured
    ckks, shares = row_of(report, "ckks"), row_of(report, "shares")
    assert set(ckks.phases) == {"encrypt", "evaluate", "carry", "decrypt"}
    assert set(shares.phases) == {"offline", "online"}
    assert {"compile", "keygen", "keys sent"} == set(ckks.once)
    assert set(ckks.peak_rss) == {"server", "owner"}
    assert set(shares.peak_rss) == {"party 0", "party 1", "dealer", "owner"}
    assert min(*ckks.peak_rss.values(), *shares.peak_rss.values()) > 20e6
    assert all(link.bytes > 0 for row in (ckks, shares) for link in row.links)
    assert shares.rounds == sum(layer.rounds or 0 for layer in shares.layers) > 0
    assert [each.who for each in (*ckks.seen, *shares.seen)] == ["server", "party 0", "party 1"]


def test_a_row_that_is_finished_is_not_measured_again(measured, words, monkeypatch):
    report, out = measured
    monkeypatch.setattr(bench_run, "measure_row", None)
    found = CliRunner().invoke(app, ["bench", *words, "--out", str(out)], catch_exceptions=False)
    assert found.exit_code == 0
    assert load_report(out / "bench.json").rows == report.rows


def test_other_pictures_settings_or_networks_are_another_row(words):
    given = own_model(ModelOptions(words[0]), [])
    plan = Plan(2, 1)
    keys = {
        key_of(given, "ckks", LOOPBACK, plan),
        key_of(given, "shares", LOOPBACK, plan),
        key_of(given, "ckks", Network("loopback", 1e6, 0.1), plan),
        key_of(given, "ckks", LOOPBACK, Plan(3, 1)),
        key_of(Given(given.name, "", given.options, given.values + 1e-9, given.names, ()), "ckks", LOOPBACK, plan),
        key_of(own_model(ModelOptions(words[0], precision=1e-4), []), "ckks", LOOPBACK, plan),
    }
    assert len(keys) == 6


def test_a_model_that_an_executor_cannot_run_leaves_its_reason_and_the_others_are_measured(tmp_path):
    b = GraphBuilder("relu", (1, 4, 4))
    save_onnx(b.build(b.relu(b.input)), tmp_path / "relu.onnx")
    words = [str(tmp_path / "relu.onnx"), "--on", "plain,ckks", "--network", "loopback", "--repeat", "1"]
    found = CliRunner().invoke(app, ["bench", *words, "--out", str(tmp_path / "out")], catch_exceptions=False)
    assert found.exit_code == 0
    report = load_report(tmp_path / "out" / "bench.json")
    assert [row.executor for row in report.rows] == ["plain"]
    assert len(report.failures) == 1
    assert "replace" in report.failures[0]
    assert "replace" in (tmp_path / "out" / "bench.html").read_text()


def test_a_row_measured_in_a_shaped_namespace_is_told_through_files(words, made_report, tmp_path, monkeypatch):
    options = ModelOptions(words[0], samples=Path(words[1]), input_range=(0.0, 1.0), precision=1e-3)
    given = own_model(options, [])
    seen = []

    def measure(*arguments: object, relayed: bool) -> Row:
        seen.append((*arguments, relayed))
        return made_report.rows[1]

    monkeypatch.setattr(bench_inside, "measure_row", measure)
    write_job(tmp_path, given, "ckks", NETWORKS["wan"], Plan(3, 2))
    run_job(tmp_path)
    [(again, executor, network, plan, relayed)] = seen
    assert (executor, network, plan, relayed) == ("ckks", NETWORKS["wan"], Plan(3, 2), False)
    assert again.options == given.options
    assert again.options.settings() == given.options.settings()
    assert again.options.ckks_settings() == given.options.ckks_settings()
    assert again.digest == given.digest
    assert msgspec.json.decode((tmp_path / "row.json").read_bytes(), type=Row) == made_report.rows[1]


def test_a_prediction_adds_waiting_and_bytes_to_the_loopback_run(made_report):
    network = Network("slow", 1e6, 0.5)
    ckks, shares = made_report.rows[1:3]
    assert predicted_total(ckks, network) == pytest.approx(0.133 + 0.5 + (188_001 + 81_002) / 1e6)
    waits = (9 + 1) * 0.25 + 0.5 + 3 * 0.5
    assert predicted_total(shares, network) == pytest.approx(2.04 + waits + (13_900 + 12_700) / 1e6)
    assert predicted_total(ckks, LOOPBACK) is None
    assert predicted_total(made_report.rows[0], network) is None


def test_the_quick_suite_has_models_that_run_on_both_executors_and_pictures_that_compilers_have_not_seen(tmp_path):
    found = suite(tmp_path, quick=True)
    names = [given.name for given in found]
    assert {"mnist-cnn", "xray-pneumonia", "T4", "gaussian", "hog"} == set(names)
    for given in found:
        samples = given.options.read_samples()
        assert given.values.shape[1:] == given.graph.input_shape
        assert len(given.subject().pictures) == min(6, len(given.values))
        if samples is not None:
            assert not any((sample == value).all() for value in given.values for sample in samples)


def test_what_is_written_for_the_tutorial_network_computes_the_same(tmp_path):
    [given] = [given for given in suite(tmp_path, quick=True, on=("ckks",)) if given.name == "T4"]
    assert given.tutorial is not None
    want = run_plain(given.tutorial.graph, given.values)
    assert np.abs(run_plain(given.graph, given.values) - want).max() < 1e-5 * np.abs(want).max()


@pytest.mark.parametrize(
    "words",
    [["--on", "gpu"], ["--network", "moon"], ["--network", ","], ["--peer", "torch=/bin/sh"], ["m.onnx", "--suite"],
     ["--precision", "0.1"], ["--only", "no such model"], ["m.onnx", "--only", "T4"]],
)  # fmt: skip
def test_what_is_not_known_is_refused_before_anything_starts(words, tmp_path):
    assert CliRunner().invoke(app, ["bench", *words, "--out", str(tmp_path / "out")]).exit_code == 2
    assert not (tmp_path / "out").exists()
