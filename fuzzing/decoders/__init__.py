"""The decoders that are fuzzed, by family."""

from __future__ import annotations

from fuzzing.decoders import (
    bundles,
    ckks,
    datasets,
    files,
    jpeg,
    ledgers,
    models,
    pictures,
    programs,
    sealed,
    shares,
    streams,
    web,
)
from fuzzing.targets import Target

__all__ = ["all_targets"]


def all_targets() -> list[Target]:
    """Every target of every family."""
    families = (streams, programs, ckks, shares, models, pictures, files, bundles, web, ledgers, sealed, jpeg, datasets)
    return [target for family in families for target in family.make_targets()]
