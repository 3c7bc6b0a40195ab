"""Releases of `secureimg publish` on a ledger: charged and on disk before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from protocols.cli.publish_kinds import Method, Release, Source
from protocols.ledger_file import create_ledger, read_ledger, spend
from secureimg.errors import PublishingError
from secureimg.privacy import Charge, Ledger, picture_name

__all__ = ["Account", "charge_all", "check_ledger"]


@dataclass(frozen=True)
class Account:
    """A ledger after the releases."""

    file: Path
    name: str
    unit: int | str
    budget: float
    spent: float
    left: float
    charged: int


def check_ledger(method: Method, path: Path | None, budget: float | None) -> None:
    """Refuse what cannot work before any picture is read.

    Raises
    ------
    PublishingError
    """
    if not method.name.startswith("dp-"):
        raise PublishingError(f"method {method.name} has no privacy loss to count: leave --ledger and --budget away")
    if path is None:
        raise PublishingError("--budget of which ledger? add --ledger FILE")
    if budget is None and not path.exists():
        raise PublishingError(f"there is no ledger {path}: add --budget EPS to make it")
    if budget is not None and path.exists():
        raise PublishingError(f"ledger {path} exists and has a budget: leave --budget away, or name another file")


def charge_all(
    path: Path | None, budget: float | None, delta: float, name: str | None, releases: Sequence[Release],
    sources: Sequence[Source],
) -> Account | None:  # fmt: skip
    """Charge every release, or none: what is past the budget is refused as a whole.

    Raises
    ------
    BudgetError
        Past the budget.
    PublishingError, BlobError, KeyMaterialError
        The ledger cannot be read, or counts something else.
    """
    charges = [release.charge for release in releases if release.charge is not None]
    if path is None or not charges:
        return None
    if budget is not None:
        title = name or (picture_name(sources[0].image) if len(sources) == 1 else "an album")
        fresh = Ledger(title, budget, delta, charges[0].unit)
        _all(fresh, charges)
        create_ledger(path, fresh)
    elif name is not None and (found := read_ledger(path).name) != name:
        raise PublishingError(f"ledger {path} is for {found!r}, not {name!r}: name the right file")
    ledger = _all(read_ledger(path), charges)
    for charge in charges:
        ledger = spend(path, charge)
    return Account(path, ledger.name, ledger.unit, ledger.epsilon, ledger.spent()[0], ledger.left(), len(charges))


def _all(ledger: Ledger, charges: Sequence[Charge]) -> Ledger:
    for charge in charges:
        ledger = ledger.spend(charge)
    return ledger
