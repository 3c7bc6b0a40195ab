"""Ledgers: what releases add up to, and that nothing passes the budget."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secureimg.errors import BlobError, BudgetError, PublishingError
from secureimg.privacy import WHOLE_IMAGE, Charge, Ledger, picture_name, rho_to_epsilon


def pixels(epsilon: float, unit: int | str = 16) -> Charge:
    return Charge("dp_pixelate", unit, epsilon=epsilon)


def test_ten_releases_of_a_tenth_fit_and_no_eleventh() -> None:
    ledger = Ledger("album", 1.0, unit=16)
    for _ in range(10):
        ledger = ledger.spend(pixels(0.1))
    assert ledger.spent() == (1.0, 0.0)
    assert ledger.left() == 0.0
    with pytest.raises(BudgetError, match=r"epsilon 1 of 1 is spent, dp_pixelate asks for epsilon 0\.1 and 0 is left"):
        ledger.spend(pixels(0.1))
    with pytest.raises(BudgetError):
        ledger.spend(pixels(1e-12))


def test_a_refused_release_costs_nothing() -> None:
    ledger = Ledger("album", 1.0, unit=16).spend(pixels(0.75))
    with pytest.raises(BudgetError, match=r"0\.25 is left"):
        ledger.spend(pixels(0.5))
    assert ledger.spend(pixels(0.25)).left() == 0.0


@given(st.lists(st.floats(1e-6, 0.5), max_size=12))
def test_the_sum_never_exceeds_the_budget(asked: list[float]) -> None:
    ledger = Ledger("album", 1.0, unit=16)
    for epsilon in asked:
        try:
            ledger = ledger.spend(pixels(epsilon))
        except BudgetError:
            assert sum(charge.epsilon for charge in ledger.charges) + epsilon > 1.0 - 1e-12
    assert sum(charge.epsilon for charge in ledger.charges) <= 1.0 + 1e-12


def test_gaussian_releases_add_up_in_zcdp_beside_the_others() -> None:
    ledger = Ledger("album", 5.0, 1e-6)
    for _ in range(4):
        ledger = ledger.spend(Charge("dp_hog", WHOLE_IMAGE, rho=0.02))
    ledger = ledger.spend(Charge("dp_pca", WHOLE_IMAGE, epsilon=0.5))
    assert ledger.spent() == (pytest.approx(0.5 + rho_to_epsilon(0.08, 1e-6)), 1e-6)
    assert ledger.spent()[0] < 0.5 + 4 * rho_to_epsilon(0.02, 1e-6)
    with pytest.raises(BudgetError, match=r"asks for rho 2"):
        ledger.spend(Charge("dp_hog", WHOLE_IMAGE, rho=2.0))


def test_delta_is_part_of_the_budget() -> None:
    pure = Ledger("album", 5.0)
    for charge in (Charge("dp_hog", WHOLE_IMAGE, rho=1e-9), Charge("other", WHOLE_IMAGE, epsilon=0.1, delta=1e-9)):
        with pytest.raises(BudgetError, match="has no delta"):
            pure.spend(charge)
    ledger = Ledger("album", 5.0, 1e-6).spend(Charge("other", WHOLE_IMAGE, epsilon=0.1, delta=1e-6))
    with pytest.raises(BudgetError):
        ledger.spend(Charge("dp_hog", WHOLE_IMAGE, rho=1e-9))
    with pytest.raises(BudgetError):
        ledger.spend(Charge("other", WHOLE_IMAGE, epsilon=0.1, delta=1e-20))


def test_releases_for_fewer_pixels_cost_more() -> None:
    """Group privacy: 16 pixels are two steps of 8, or of 15, one of 16 or more, and one of a whole image."""
    ledger = Ledger("album", 10.0, 1e-6, 16)
    for unit, epsilon in ((8, 0.2), (15, 0.2), (16, 0.1), (17, 0.1), (WHOLE_IMAGE, 0.1)):
        assert ledger.spend(pixels(0.1, unit)).spent()[0] == pytest.approx(epsilon)
    assert ledger.spend(Charge("g", 8, rho=0.01)).spent()[0] == pytest.approx(rho_to_epsilon(0.04, 1e-6))
    with pytest.raises(BudgetError, match="for 1 pixel, 16 times that for 16 pixels"):
        ledger.spend(pixels(1.0, 1))


@pytest.mark.parametrize(("unit", "charge"), [
    (WHOLE_IMAGE, pixels(0.1, 16)),
    (WHOLE_IMAGE, pixels(0.1, "a distance of 1")),
    (16, pixels(0.1, "a distance of 1")),
    (16, Charge("other", 8, epsilon=0.1, delta=1e-9)),
])  # fmt: skip
def test_losses_that_do_not_compare_are_refused(unit: int | str, charge: Charge) -> None:
    with pytest.raises(PublishingError):
        Ledger("album", 1.0, 1e-6, unit).spend(charge)


@pytest.mark.parametrize("charge", [
    pixels(-0.5), pixels(float("nan")), pixels(float("inf")), pixels(0.1, 0), Charge("x", 16, rho=-1.0),
    Charge("x", 16, delta=1.0), Charge("", 16, epsilon=0.1), Charge("x" * 201, 16),
])  # fmt: skip
def test_a_charge_out_of_range_is_refused(charge: Charge) -> None:
    with pytest.raises(PublishingError, match="cannot be kept"):
        Ledger("album", 1.0, 1e-6, 16).spend(charge)


def test_a_full_ledger_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secureimg.privacy.ledger.MAX_CHARGES", 3)
    ledger = Ledger("album", 1.0, unit=16)
    for _ in range(3):
        ledger = ledger.spend(pixels(0.01))
    with pytest.raises(BudgetError, match="3 releases, as many as it may"):
        ledger.spend(pixels(0.01))


@settings(deadline=None)
@given(
    st.lists(st.builds(pixels, st.floats(0, 0.01), st.sampled_from([8, 16, 300, WHOLE_IMAGE])), max_size=5),
    st.text(min_size=1, max_size=200),
)
def test_a_ledger_is_read_as_it_was_written(charges: list[Charge], name: str) -> None:
    ledger = Ledger(name, 1.0, 1e-9, 16)
    for charge in charges:
        ledger = ledger.spend(charge)
    assert Ledger.from_bytes(ledger.to_bytes()) == ledger


@pytest.mark.parametrize(("old", "new"), [
    (b'"version": 1', b'"version": 2'), (b'"secureimg ledger"', b'"another"'), (b'"epsilon": 1.0', b'"epsilon": -1.0'),
    (b'"epsilon": 1.0', b'"epsilon": 1e999'), (b'"unit": 16', b'"unit": 0'), (b'"charges"', b'"charge"'), (b"}", b""),
    (b'"unit": 16', b'"unit": "whole image"'), (b"album", b"alb\xffm"),
])  # fmt: skip
def test_damaged_bytes_are_one_error(old: bytes, new: bytes) -> None:
    data = Ledger("album", 1.0, unit=16).spend(pixels(0.1)).to_bytes()
    assert old in data
    with pytest.raises(BlobError, match="here is no ledger of version 1"):
        Ledger.from_bytes(data.replace(old, new, 1), "here")
    with pytest.raises(BlobError, match="at most"):
        Ledger.from_bytes(data + b" " * (4 << 20))


def test_pictures_are_named_by_their_values_and_shape() -> None:
    image = np.linspace(0, 1, 12).reshape(3, 4)
    assert picture_name(image) == picture_name(np.asfortranarray(image))
    assert len({picture_name(image), picture_name(image.reshape(4, 3)), picture_name(image + 1e-9)}) == 3
    assert Ledger(picture_name(image), 1.0).to_bytes()
