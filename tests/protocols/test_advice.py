"""`secureimg advise`: prices, counts, forecasts and verdicts. How near forecasts come is measured, not tested."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from protocols.advice import (
    NETWORKS,
    Calibration,
    CkksForecast,
    Cost,
    Network,
    SharesForecast,
    Study,
    Trust,
    cache_file,
    forecast_ckks,
    forecast_shares,
    judge,
    parse_network,
    read_calibration,
    study,
    write_calibration,
)
from protocols.advice.calibration import machine_fingerprint
from protocols.advice.fitting import fit, price
from protocols.advice.kernels import KERNELS, compile_kernel
from protocols.advice.linear_maps import linear_work, map_prices, ring_shape
from protocols.advice.links import link_prices, time_kernels
from protocols.advice.steps import map_work, offline_work, online_work
from protocols.cli.app import app
from protocols.cli.console import amount, duration
from protocols.deployment.models import LoadedModel, ModelOptions, ShareOptions
from secureimg import ckks, graph, sharing
from secureimg.ckks.report import milliseconds_of
from secureimg.errors import ParameterError, SecureImgError
from secureimg.sharing.text import Geometry


def times(cores_crowd: float = 1.0) -> ckks.OperationTimes:
    """Round numbers: a rotation costs (k + 1)(k + 2) ms, everything linear k ms."""
    from secureimg.ckks.measured import Line

    linear = Line(0.0, 1.0)
    return ckks.OperationTimes(
        ring_degree=8192, data_primes=4, rotation=linear, square=linear, product=linear, addition=linear, rescale=linear,
        send=linear, key=10.0, key_byte=1e-6, encrypt=3.0, read=2.0, write=1.0, decrypt=1.0, crowded=cores_crowd,
    )  # fmt: skip


def prices() -> Calibration:
    """A machine where everything costs a microsecond a unit, linear maps a nanosecond."""
    found = Calibration.empty()
    program = compile_kernel("squares, small")
    kinds = {name for key in KERNELS for name in online_work(compile_kernel(key).public)}
    found.online = dict.fromkeys(kinds, 1e-6)
    found.offline = dict.fromkeys(offline_work(program.public), 1e-6)
    found.maps = {"dense product": 1e-9}
    return found


@pytest.fixture(scope="module")
def digits() -> ckks.Program:
    return ckks.compile(graph.load_model("mnist-cnn"))


# ------------------------------------------------------------------------------------------------------ prices and work


@given(st.lists(st.floats(1e-9, 1e-3), min_size=3, max_size=3), st.integers(0, 2**32 - 1))
def test_prices_of_kernels_that_were_made_with_prices_are_those_prices(wanted: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = ("run", "byte", "gate")
    works = [dict(zip(names, (1.0, *rng.uniform(1, 1000, 2)), strict=True)) for _ in range(12)]
    true = dict(zip(names, wanted, strict=True))
    found = fit([(work, price(work, true)) for work in works])
    for work in works:
        assert price(work, found) == pytest.approx(price(work, true), rel=1e-6)


def test_no_price_is_negative_even_where_that_would_fit_better() -> None:
    found = fit([({"a": 1.0, "b": 1.0}, 1.0), ({"a": 2.0, "b": 1.0}, 0.5), ({"a": 3.0, "b": 1.0}, 0.25)])
    assert min(found.values()) >= 0


@pytest.mark.parametrize("images", [1, 3])
def test_counted_work_agrees_with_the_compilers_own_cost_report(images: int) -> None:
    for name in KERNELS:
        public = compile_kernel(name).public
        work, cost = online_work(public, images), sharing.cost_of(public, images)
        assert work["link byte"] == cost.online_bytes
        assert offline_work(public, images)["dealt byte"] == cost.offline_bytes
        assert work.get("compared", 0) >= sum(layer.comparisons for layer in cost.layers)
        talks = 3 * work.get("gate", 0) + work.get("product", 0) + work.get("truncation", 0) + work.get("blinding", 0)
        assert talks == cost.rounds


def test_every_kind_of_step_of_the_shipped_models_and_features_has_a_kernel_that_prices_it() -> None:
    kinds = {name for key in KERNELS for name, much in online_work(compile_kernel(key).public).items() if much}
    from secureimg import features

    for model in (graph.load_model("mnist-cnn"), features.hog((32, 32))):
        assert online_work(sharing.compile(model).public).keys() <= kinds | {"level"}


def test_work_of_a_convolution_counts_each_product_once_for_each_limb_product() -> None:
    conv = Geometry(
        kind="conv", in_shape=(8, 20, 20), out_shape=(16, 20, 20), weight_shape=(16, 8, 3, 3), pads=(1, 1, 1, 1)
    )
    assert linear_work(conv, 2, (2, 3))["serial product"] == 3 * 2 * conv.multiplications
    assert linear_work(conv, 10, (2, 3))["parallel product"] == 3 * 10 * conv.multiplications


@pytest.mark.parametrize(("width", "shape"), [(20, (2, 3)), (42, (2, 3)), (60, (3, 6))])
def test_masked_weights_take_the_limb_products_that_reach_into_the_ring(width: int, shape: tuple[int, int]) -> None:
    assert ring_shape(width) == shape


def test_maps_of_both_parties_are_counted_online_only_if_weights_are_public() -> None:
    model = graph.load_model("mnist-cnn")
    assert map_work(sharing.compile(model))[1]
    assert not map_work(sharing.compile(model, weights="public"))[1]


def test_equal_kernel_names_give_equal_programs() -> None:
    for name in ("relu", "layers, small"):
        assert compile_kernel(name).public.fingerprint == compile_kernel(name).public.fingerprint


# ------------------------------------------------------------------------------------------------------------ measuring


def test_kernels_are_timed_between_processes_and_priced() -> None:
    timed = time_kernels(("answer", "relu, small", "layers, small"), repeats=2)
    assert [kernel.name for kernel in timed] == ["answer", "relu, small", "layers, small"]
    assert all(0 < kernel.online < 30 and 0 < kernel.offline < 30 for kernel in timed)
    online, offline = link_prices(timed, {})
    assert price(online_work(timed[1].program.public), online) > 0
    assert price(offline_work(timed[1].program.public), offline) > 0


def test_linear_maps_get_a_price_for_work_of_every_kind() -> None:
    found = map_prices()
    assert found.keys() >= {"serial product", "parallel product", "dense product", "direct product", "sparse entry"}
    for kind in ("dense", "serial", "parallel", "direct", "sparse", "scale"):
        assert any(value > 0 for name, value in found.items() if name.startswith(kind))


def test_measured_operations_grow_with_the_primes() -> None:
    found = ckks.measure_operations(ckks.Parameters(8192, ckks.PrimeBits((40, 40, 40), 50)), cores=2)
    costs = ckks.MeasuredCosts(8192, times=found)
    for name in ("rotation", "square", "product", "rescale", "addition"):
        assert 0 < getattr(costs, name)(1) <= getattr(costs, name)(3), name
    assert costs.rotation(3) > costs.product(3)
    assert found.crowded >= 1
    assert min(found.key, found.encrypt, found.read, found.write, found.decrypt) > 0


# ------------------------------------------------------------------------------------------------------------ forecasts


def test_ckks_bytes_are_exactly_those_of_the_blobs(digits: ckks.Program) -> None:
    found = forecast_ckks(digits, times(), 1)
    keys = ckks.OwnerKeys.generate(digits.public)
    made, blob = keys.evaluation_keys(), keys.encrypt(np.zeros(digits.public.input_shape))
    with ckks.Evaluator(digits) as evaluator:
        answer = evaluator.evaluate(made, blob)
    assert (found.key_bytes, found.up_bytes, found.down_bytes) == (len(made.to_bytes()), len(blob), len(answer))


def test_a_ckks_forecast_is_the_sum_of_its_instructions_and_of_its_ends(digits: ckks.Program) -> None:
    measured = times()
    costs = ckks.MeasuredCosts(8192, times=measured)
    total = sum(milliseconds_of(item, digits.text, costs) for item in digits.text.instructions)
    body = digits.public.body
    ends = measured.read * body.packing.ciphertexts + measured.write * body.output.ciphertexts * body.output_primes
    assert forecast_ckks(digits, measured, 1).evaluate_seconds == pytest.approx((total + ends) / 1e3)
    table = sum(milliseconds_of(item, digits.text, ckks.CostModel(8192)) for item in digits.text.instructions)
    assert table == pytest.approx(digits.cost.milliseconds)


def test_a_long_evaluation_is_divided_between_cores_and_crowding_makes_it_slower(digits: ckks.Program) -> None:
    slow = replace(digits, cost=ckks.CostReport(**{**_fields(digits.cost), "milliseconds": 1e6}))
    one, two = (forecast_ckks(slow, times(), cores).evaluate_seconds for cores in (1, 2))
    assert 0.5 * one < two < one
    assert forecast_ckks(slow, times(2.0), 2).evaluate_seconds > two
    assert forecast_ckks(digits, times(), 2).evaluate_seconds == pytest.approx(one)


def _fields(cost: ckks.CostReport) -> dict[str, Any]:
    return {name: getattr(cost, name) for name in cost.__struct_fields__}


def test_shares_forecast_tells_the_cost_report_and_grows_with_images() -> None:
    program = sharing.compile(graph.load_model("mnist-cnn"))
    cost = sharing.cost_of(program.public, 1)
    one, four = (forecast_shares(program, prices(), images) for images in (1, 4))
    assert (one.rounds, one.link_bytes, one.dealt_bytes) == (cost.rounds, cost.online_bytes, cost.offline_bytes)
    assert one.rounds == four.rounds
    assert one.link_bytes < four.link_bytes
    assert one.online_seconds < four.online_seconds < 4 * one.online_seconds


@pytest.mark.parametrize("slower", ["lan", "wan"])
def test_a_network_adds_its_latency_for_every_round_and_its_bytes(slower: str) -> None:
    options, shares = ModelOptions("feature:sobel:32x32"), ShareOptions()
    calibration = prices()
    here, there = (study(options, shares, calibration, NETWORKS[name], 1, 1) for name in ("loopback", slower))
    assert here.shares is not None
    network = NETWORKS[slower]
    added = there.costs["shares"].answer_seconds - here.costs["shares"].answer_seconds
    least = (here.shares.rounds / 2) * network.round_trip_seconds + network.carry(here.shares.widest_bytes)
    assert (
        least
        < added
        < least + 3 * network.round_trip_seconds + network.carry(here.shares.up_bytes + here.shares.down_bytes)
    )


@pytest.mark.parametrize(
    ("text", "round_trip", "rate"),
    [("20ms,50Mbit/s", 0.02, 6.25e6), ("0.5,1000", 0.0005, 125e6), ("0,8", 0.0, 1e6), ("lan", 0.5e-3, 125e6)],
)
def test_networks_are_read(text: str, round_trip: float, rate: float) -> None:
    found = parse_network(text)
    assert (found.round_trip_seconds, found.bytes_per_second) == (round_trip, rate)


@given(st.text(max_size=30).filter(lambda text: not text.strip()[:1].isdigit()))
def test_any_other_network_is_refused_with_the_way_to_write_it(text: str) -> None:
    if text in NETWORKS:
        return
    with pytest.raises(ParameterError, match="20ms,50Mbit/s"):
        parse_network(text)


# ---------------------------------------------------------------------------------------------------------------- cache


def test_a_calibration_is_kept_for_this_machine_and_its_user_only(tmp_path: Path) -> None:
    place = tmp_path / "new" / "calibration.json"
    kept = prices()
    kept.operations["8192/4/1"] = times()
    assert write_calibration(place, kept)
    assert read_calibration(place) == kept
    assert place.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("field", ["version", "machine"])
def test_a_calibration_of_another_machine_or_release_is_not_used(tmp_path: Path, field: str) -> None:
    kept = prices()
    setattr(kept, field, 99 if field == "version" else "0" * 32)
    write_calibration(tmp_path / "c.json", kept)
    found = read_calibration(tmp_path / "c.json")
    assert not found.online
    assert found.machine == machine_fingerprint()


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"version": "1"}', b"\xff" * 10, b"[" * 100_000, b" " * (2 << 20)]
)
def test_a_damaged_calibration_is_measured_again_not_an_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "c.json").write_bytes(data)
    assert not read_calibration(tmp_path / "c.json").online


def test_a_cache_directory_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not write_calibration(tmp_path / "file" / "c.json", prices())


def test_the_cache_is_in_the_users_cache_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_file() == tmp_path / "secureimg" / "calibration.json"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard says to ignore it
    assert cache_file() == Path.home() / ".cache" / "secureimg" / "calibration.json"


# ------------------------------------------------------------------------------------------------------------- verdicts


def made_study(ckks_seconds: float | None, shares_seconds: float | None, refused: str = "it has ReLU") -> Study:
    """What a study would have found, with the given totals."""
    builder = graph.GraphBuilder("m", (1, 4, 4))
    model = builder.build(builder.square(builder.input))
    costs: dict[str, Cost] = {}
    if ckks_seconds is not None:
        costs["ckks"] = Cost("ckks", 1.0, 0.0, ckks_seconds, ckks_seconds, 8_000_000, 270_000)
    if shares_seconds is not None:
        costs["shares"] = Cost("shares", 0.0, 0.1, shares_seconds, shares_seconds, 200_000, 40_000)
    reasons = {name: refused for name in ("ckks", "shares") if name not in costs}
    encrypted = CkksForecast(1, 1, 1, 1, 1, 1, 1, 1, 1, 1) if "ckks" in costs else None
    shared = SharesForecast(1, 1, 1, 1, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1) if "shares" in costs else None
    return Study(LoadedModel(model, model, ()), 1, Network("loopback"), reasons, costs, encrypted, shared, 3, 8192)


def verdict(found: Study, trust: Trust) -> Any:
    return judge(found, trust, "m.onnx", " --batch 2", duration, amount)


def test_who_trusts_nobody_is_never_sent_to_shares() -> None:
    found = verdict(made_study(100.0, 0.001), Trust.NONE)
    assert (found.executor, found.dealer) == ("ckks", None)
    assert found.command == "secureimg run m.onnx INPUT --on ckks --batch 2"
    assert "Shares between two parties: 1 ms an answer" in found.alternative


@pytest.mark.parametrize(("trust", "dealer"), [(Trust.PARTIES, "client-aided"), (Trust.DEALER, "dealer")])
def test_with_two_parties_the_faster_one_is_chosen_and_the_dealer_is_the_trusted_one(trust: Trust, dealer: str) -> None:
    found = verdict(made_study(2.0, 1.0), trust)
    assert (found.executor, found.dealer) == ("shares", dealer)
    assert found.command == f"secureimg run m.onnx INPUT --on shares --dealer {dealer} --batch 2"
    assert verdict(made_study(1.0, 2.0), trust).executor == "ckks"


def test_of_two_that_are_as_fast_the_one_that_trusts_fewer_is_chosen() -> None:
    assert verdict(made_study(1.0, 0.95), Trust.PARTIES).executor == "ckks"


def test_if_nothing_fits_the_reason_and_the_ways_out_are_said() -> None:
    reason = "this model has ReLU. Two ways out: replace_activations"
    found = verdict(made_study(None, 1.0, reason), Trust.NONE)
    assert found.executor is None
    assert reason in found.change
    assert "--trust two-parties" in found.change
    assert "--replace-activations 4 --samples FILE.npy" in found.command
    nothing = verdict(made_study(None, None), Trust.DEALER)
    assert "Shares cannot run it either: it has ReLU." in nothing.change


# --------------------------------------------------------------------------------------------------------- command line


@pytest.fixture
def calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = prices()
    assert write_calibration(cache_file(), kept)
    return cache_file()


def test_json_has_every_number_with_its_unit_and_the_verdict(calibrated: Path) -> None:
    arguments = ["advise", "feature:sobel_h:16x16", "--network", "wan", "--trust", "two-parties", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["verdict"]["executor"] in ("ckks", "shares")
    assert report["verdict"]["leaks"]
    units = ("_seconds", "_bytes", "_per_second")
    plain = {"images", "cores", "rounds", "comparisons", "products", "levels", "ring_degree"}
    for key, value in _leaves(report):
        if isinstance(value, int | float) and not isinstance(value, bool):
            assert key.endswith(units) or key in plain, key
    assert len(read_calibration(calibrated).operations) == 1  # what was measured is kept


def _leaves(value: dict[str, Any]) -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    for key, item in value.items():
        out.extend(_leaves(item) if isinstance(item, dict) else [(key, item)])
    return out


def test_the_words_name_executor_leaks_and_next_command(calibrated: Path) -> None:
    result = CliRunner().invoke(app, ["advise", "feature:sobel_h:16x16"])
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "Use CKKS." in said
    assert "the server learns nothing about the pixels or the answer" in said
    assert "secureimg run feature:sobel_h:16x16 INPUT --on ckks" in said


def test_a_model_that_ciphertexts_cannot_compute_gets_reason_and_remedy(calibrated: Path) -> None:
    result = CliRunner().invoke(app, ["advise", "feature:local_binary_pattern:16x16"])
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "Nothing fits as it is. CKKS cannot run it:" in said
    assert "--trust two-parties" in said


def test_a_bad_network_ends_before_any_work(calibrated: Path) -> None:
    result = CliRunner().invoke(app, ["advise", "no such model", "--network", "fast"])
    assert isinstance(result.exception, SecureImgError)
    assert "--network 'fast'" in str(result.exception)
