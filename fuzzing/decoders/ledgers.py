"""Ledgers of privacy loss."""

from __future__ import annotations

from fuzzing.decoders.scratch import written
from fuzzing.targets import Target
from fuzzing.trees import json_codec
from protocols.ledger_file import read_ledger, spend
from secureimg.errors import BudgetError
from secureimg.privacy import Charge, Ledger

__all__ = ["make_targets"]


def _ledgers() -> list[bytes]:
    plain = Ledger("picture 00ff", 1.0).spend(Charge("dp_hog", "whole image", epsilon=0.25))
    both = Ledger("album", 4.0, 1e-5, 16)
    for charge in (
        Charge("dp_pixelate", 8, epsilon=0.1),
        Charge("dp_hog", "whole image", rho=0.001),
        Charge("other", 16, epsilon=0.5, delta=1e-7),
    ):
        both = both.spend(charge)
    found = [plain.to_bytes(), both.to_bytes()]
    written(found[0], ".ledger")
    return found


def _decode(data: bytes) -> object:
    path = written(data, ".ledger")
    ledger = read_ledger(path)
    ledger.spent()
    if Ledger.from_bytes(ledger.to_bytes()) != ledger:
        raise AssertionError("a ledger that was written and read again is another one")
    charge = Charge("fuzzing", ledger.unit, epsilon=0.001)
    try:
        after = spend(path, charge)
    except BudgetError:
        return ledger
    if read_ledger(path) != after or len(after.charges) != len(ledger.charges) + 1:
        raise AssertionError("a charge is not on record")
    return after


def make_targets() -> list[Target]:
    """Files of ledgers."""
    return [
        Target(
            "ledger", "a ledger of privacy loss", _decode, _ledgers, None, json_codec, seconds=6.0,  # imports OpenDP once
        ),
    ]  # fmt: skip
