"""The benchmark of features measures what the catalogue holds, and its figures are what was computed, sent and counted."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import feature
from sklearn.metrics import roc_auc_score, roc_curve
from typer.testing import CliRunner

from benchmarks import feature_command
from benchmarks.__main__ import app
from benchmarks.feature_executors import Executors
from benchmarks.feature_measure import measure_subject, measure_task
from benchmarks.feature_pictures import GREY, faces, jittered, patches, pictures
from benchmarks.feature_plot import plot_features
from benchmarks.feature_report import feature_markdown
from benchmarks.feature_results import FeatureRun, Outcome
from benchmarks.feature_scores import auc, corners, part_equal, roc, roc_difference, tpr_at
from benchmarks.feature_subjects import SUBJECTS, Subject
from benchmarks.feature_tasks import TASKS, Task
from secureimg.errors import GraphError
from secureimg.features import FEATURES
from secureimg.sharing import compile as compile_shares
from secureimg.sharing import cost_of

SIZE = 32


@pytest.fixture(scope="module")
def executors() -> Iterator[Executors]:
    with Executors() as running:
        yield running


def subject(name: str) -> Subject:
    return next(item for item in SUBJECTS if item.name == name)


def task(name: str) -> Task:
    return next(item for item in TASKS if item.name == name)


@pytest.fixture(scope="module")
def run(executors: Executors) -> FeatureRun:
    """Two features and three tasks, measured on every executor that they have."""
    rows, failures = [], []
    for name in ("gaussian", "local_binary_pattern"):
        found, failed = measure_subject(subject(name), executors, size=SIZE, repeat=1)
        rows += found
        failures += failed
    tasks = [task(name) for name in ("faces by HOG and SVM", "1:100 by HOG", "verification by eigenfaces")]
    outcomes = [measure_task(item, executors, quick=True) for item in tasks]
    settings = {
        "size": SIZE, "repeat": 1, "cores": 1, "workers": 1, "pictures": ["a"], "colour": ["b"],
        "tasks": {item.name: item.words for item in tasks},
    }  # fmt: skip
    machine = {"cpu": "c", "cores": 1, "memory_bytes": 2**30, "system": "s", "python": "3"}
    return FeatureRun(
        tuple(rows), tuple(row for outcome, _ in outcomes for row in outcome.rows),
        tuple(curve for outcome, _ in outcomes for curve in outcome.curves), tuple(failures), settings, "Nobody colludes.",
        machine, {},
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- what is there


def test_every_feature_of_the_catalogue_is_measured_where_it_runs() -> None:
    found = {item.name: item.executors for item in SUBJECTS}
    assert len(found) == len(SUBJECTS)
    # those that no other library has, and the parts of SIFT, have tasks
    alone = {
        name: item.executors for name, item in FEATURES.items() if not name.startswith(("sift_", "hog_polynomial"))
    }
    assert alone.items() <= found.items()


@pytest.mark.parametrize("name", [item.name for item in SUBJECTS])
def test_each_reference_is_that_of_its_feature(name: str, executors: Executors) -> None:
    """In the clear ours and the other library's differ by rounding only, on every picture."""
    item = dataclasses.replace(subject(name), executors=("plain",))
    rows, failures = measure_subject(item, executors, size=SIZE, repeat=1)
    assert not failures
    if rows[0].equal is not None:
        assert rows[0].equal >= 0.999
    else:
        assert rows[0].error < 1e-6


def test_pictures_are_real_ones_with_8_bits_a_value() -> None:
    for colour in (False, True):
        found = pictures(SIZE, colour=colour)
        assert np.array_equal(np.rint(255 * found), 255 * found)
        assert found.min() >= 0
        assert found.max() <= 1
        assert found.std(axis=(1, 2, 3)).min() > 0.02
    assert pictures(SIZE).shape == (len(GREY), 1, SIZE, SIZE)


def test_a_moved_picture_is_a_part_of_the_same_one() -> None:
    images, labels = faces()
    assert labels.sum() == 100
    moved = jittered(images[:5], 2, 0.0, 1)
    for before, after in zip(images[:5, 0], moved[:, 0], strict=True):
        places = [
            (row, column) for row in range(-2, 3) for column in range(-2, 3)
            if np.array_equal(np.roll(before, (row, column), (0, 1))[2:-2, 2:-2], after[2:-2, 2:-2])
        ]  # fmt: skip
        assert places
    assert not np.array_equal(images[:5], moved)
    assert patches(7, 1).shape == (7, 1, 25, 25)


# ---------------------------------------------------------------------------------------------------------------- arithmetic

SCORES = st.lists(st.integers(-6, 6).map(lambda value: value / 4), min_size=1, max_size=40)


@settings(max_examples=100, deadline=None)
@given(SCORES, SCORES)
def test_a_curve_and_its_area_are_those_of_scikit_learn(genuine: list[float], impostor: list[float]) -> None:
    belongs = [1] * len(genuine) + [0] * len(impostor)
    false, true, _ = roc_curve(belongs, genuine + impostor, drop_intermediate=False)
    found = roc(genuine, impostor)
    np.testing.assert_allclose(found[0], false)
    np.testing.assert_allclose(found[1], true)
    assert auc(found) == pytest.approx(roc_auc_score(belongs, genuine + impostor))
    fewer = corners(found)
    assert auc(fewer) == pytest.approx(auc(found))
    assert roc_difference(fewer, found) == 0


@settings(max_examples=100, deadline=None)
@given(SCORES, SCORES, SCORES, SCORES)
def test_the_difference_of_two_curves_is_the_largest_that_a_false_positive_rate_shows(
    genuine: list[float], impostor: list[float], more: list[float], others: list[float]
) -> None:
    """Against scikit-learn's curves, tried at every rate that any threshold gives and between them."""
    sides = (genuine, impostor), (more, others)
    curves = [
        roc_curve([1] * len(good) + [0] * len(bad), good + bad, drop_intermediate=False)[:2] for good, bad in sides
    ]
    rates = np.unique(np.concatenate([np.concatenate([false, false + 1e-9]) for false, _ in curves]))
    best = [[true[false <= rate].max() for rate in rates] for false, true in curves]
    one, other = roc(genuine, impostor), roc(more, others)
    assert roc_difference(one, other) == pytest.approx(np.abs(np.subtract(*best)).max())
    np.testing.assert_allclose(tpr_at(one, rates), best[0])


def test_equal_values() -> None:
    assert part_equal([[1.2, 2.0], [3.0, 4.4]], [1, 2, 9, 4]) == 0.75


# --------------------------------------------------------------------------------------------------------------------- a run


def test_rows_say_what_was_computed_and_sent(run: FeatureRun) -> None:
    """Bytes and rounds are those that the program promises; errors those of its page; every executor has its own figures."""
    assert not run.failures
    rows = {(row.feature, row.executor): row for row in run.rows}
    assert set(rows) == {
        ("gaussian", "plain"), ("gaussian", "ckks"), ("gaussian", "shares"),
        ("local_binary_pattern", "plain"), ("local_binary_pattern", "shares"),
    }  # fmt: skip
    for (name, executor), row in rows.items():
        assert row.pictures == row.figures.seconds.count == len(GREY)
        assert 0 < row.figures.seconds.min <= row.figures.seconds.median <= row.figures.seconds.max
        if executor == "shares":
            cost = cost_of(compile_shares(subject(name).build(SIZE), weights="public").public)
            assert row.figures.rounds == cost.rounds
            assert row.figures.between >= cost.online_bytes
            assert row.figures.dealt >= cost.offline_bytes
            assert row.figures.offline.median > 0
        if executor == "ckks":
            assert row.figures.levels == 1
            assert row.figures.rotations > 0
            assert min(row.figures.up, row.figures.down, row.figures.keys) > 1000
            assert min(row.figures.encrypt.median, row.figures.decrypt.median, row.figures.compile) > 0
    assert rows["local_binary_pattern", "shares"].equal > 0.999
    assert 1e-9 < rows["gaussian", "ckks"].error < 1e-4
    assert 1e-7 < rows["gaussian", "shares"].error < 1e-3


def test_tasks_reach_everywhere_what_they_reach_in_the_clear(run: FeatureRun) -> None:
    rows = {(row.task, row.executor, row.measure): row for row in run.tasks}
    accuracy = rows["faces by HOG and SVM", "shares", "accuracy"]
    assert accuracy.clear == accuracy.found > 0.9
    assert accuracy.agree == 1.0
    assert accuracy.figures.down <= 2  # a bit a picture, and no score
    for executor in ("plain", "ckks", "shares"):
        recall = rows["1:100 by HOG", executor, "recall@1"]
        assert recall.clear == recall.found > 0.5
        assert recall.agree == 1.0
        assert recall.count == recall.figures.seconds.count == 25
    area = rows["verification by eigenfaces", "shares", "AUC"]
    assert abs(area.clear - area.found) < 1e-4 < 1 - area.clear
    curves = {curve.executor: (np.array(curve.false), np.array(curve.true)) for curve in run.curves}
    assert set(curves) == {"clear", "plain", "shares"}
    difference = rows["verification by eigenfaces", "shares", "largest ROC difference"].found
    assert difference == roc_difference(curves["clear"], curves["shares"]) < 0.02
    assert rows["verification by eigenfaces", "plain", "largest ROC difference"].found == 0


def test_tables_plot_and_json_hold_all_of_it(run: FeatureRun, tmp_path) -> None:
    failed = dataclasses.replace(run, failures=("gabor on ckks: too large",))
    text = feature_markdown(failed)
    for words in ("skimage.filters.gaussian", "verification by eigenfaces", "equal", "Nobody colludes.", "too large"):
        assert words in text
    tables = [part for part in text.split("\n\n") if part.startswith("|")]
    assert len(tables) == 4
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    run.save(tmp_path / "run.json")
    saved = json.loads((tmp_path / "run.json").read_text())
    assert [row["error"] for row in saved["rows"]] == [row.error for row in run.rows]
    pytest.importorskip("matplotlib")
    for part in (run, dataclasses.replace(run, tasks=(), curves=()), dataclasses.replace(run, rows=())):
        plot_features(part, tmp_path / "p.svg")
        assert "<svg" in (tmp_path / "p.svg").read_text()
        (tmp_path / "p.svg").unlink()


def test_an_error_above_the_bar_is_named(run: FeatureRun) -> None:
    rows = tuple(dataclasses.replace(row, error=2e-3) if row.executor == "ckks" else row for row in run.rows)
    assert "Not to 1e-3: gaussian on ckks (2.0e-03)." in feature_markdown(dataclasses.replace(run, rows=rows))
    assert "Not to 1e-3" not in feature_markdown(run)


def test_what_an_executor_refuses_leaves_its_reason_and_the_rest_is_measured(executors: Executors) -> None:
    """Local binary patterns compare, which no polynomial does."""
    item = dataclasses.replace(subject("local_binary_pattern"), executors=("ckks", "plain"))
    rows, failures = measure_subject(item, executors, size=SIZE, repeat=1)
    assert [row.executor for row in rows] == ["plain"]
    assert len(failures) == 1
    assert failures[0].startswith("local_binary_pattern on ckks: ")

    def refuse(executors: Executors, quick: bool) -> Outcome:
        raise GraphError("no such picture")

    assert measure_task(Task("t", "", refuse), executors, quick=True) == (Outcome(()), ["t: no such picture"])


def test_a_wrong_reference_shows(executors: Executors) -> None:
    """The benchmark would see a feature that is off: here the reference is of another parameter."""
    item = dataclasses.replace(
        subject("hog"), executors=("plain",), reference=lambda values: feature.hog(values[0], block_norm="L2")
    )
    assert measure_subject(item, executors, size=SIZE, repeat=1)[0][0].error > 1e-2


# --------------------------------------------------------------------------------------------------------------- the command


@pytest.mark.parametrize(
    "words", [["--only", "no such feature"], ["--size", "33"], ["--size", "8"], ["--repeat", "0"], ["--cores", "0"]]
)
def test_the_command_refuses_what_it_cannot_do_before_it_starts_anything(words: list[str]) -> None:
    assert CliRunner().invoke(app, ["features", *words]).exit_code == 2


def test_a_library_that_is_missing_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)  # as Python marks what cannot be imported
    monkeypatch.delitem(sys.modules, "benchmarks.feature_tasks")
    done = CliRunner().invoke(app, ["features", "--only", "hog"], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert "sklearn" in done.output
    assert "pip install" in done.output


def test_only_takes_parts_of_names_and_a_quick_run_is_smaller() -> None:
    subjects, tasks = feature_command._chosen(["HOG", "rgb2gray"], quick=True)
    assert {item.name for item in subjects} == {"hog", "rgb2gray"}
    assert {item.name for item in tasks} == {"faces by HOG and SVM", "faces by polynomial HOG and SVM", "1:100 by HOG"}
    few, _ = feature_command._chosen(None, quick=True)
    every, _ = feature_command._chosen(None, quick=False)
    assert 0 < len(few) < len(every) == len(SUBJECTS)
