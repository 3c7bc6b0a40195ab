"""What must fit together in a process's file, beyond each key for itself."""

from __future__ import annotations

from typing import Any

from protocols.deployment.settings import EXAMPLES, PARTIES, Config
from secureimg.errors import ParameterError

__all__ = ["broken_rule"]


def broken_rule(config: Config, given: dict[str, Any]) -> str | None:
    """Return the first rule that a configuration breaks, as a sentence with its remedy, or None.

    Parameters
    ----------
    config : Config
    given : dict
        The tables of the file: what was said, rather than left at its default.
    """
    for rule in (_peers, _aggregation, _dealing, _model, _ranges, _stock, _web):
        trouble = rule(config, given)
        if trouble is not None:
            return trouble
    return None


def _peers(config: Config, given: dict[str, Any]) -> str | None:
    if config.role == "party0" and config.peers.party1 is None:
        return f'the key peers.party1 is missing: party 0 dials party 1, say where, like "{EXAMPLES["peers.party1"]}"'
    return None


def _aggregation(config: Config, given: dict[str, Any]) -> str | None:
    if config.aggregation is None:
        return None
    try:
        config.aggregation.terms()
    except ParameterError as error:
        return f"the section aggregation: {error}"
    for section in ("model", "web"):
        if given.get(section):
            return f"a party that aggregates updates serves no model: remove the section {section}, or [aggregation]"
    if config.dealing.client_aided:
        return "dealing.client_aided = true: an owner must not deal for the check of its own update: remove it"
    if config.stock.high:
        return f"stock.high = {config.stock.high}: a party that aggregates updates keeps no stock: remove the section stock"
    if config.peers.dealer is None:
        return f'the key peers.dealer is missing: the norm check needs one, like "{EXAMPLES["peers.dealer"]}"'
    return None


def _dealing(config: Config, given: dict[str, Any]) -> str | None:
    if config.role in PARTIES and not config.dealing.client_aided and config.peers.dealer is None:
        return (
            "nobody deals: say dealing.client_aided = true (each owner deals for its own images), or where a dealer is, "
            f'like peers.dealer = "{EXAMPLES["peers.dealer"]}" (it must not collude with either party), or both'
        )
    return None


def _model(config: Config, given: dict[str, Any]) -> str | None:
    model = config.model
    if config.role in ("server", "party1") and model.name is None and config.aggregation is None:
        return f'the key model.name is missing: say what to serve, like "{EXAMPLES["model.name"]}"'
    if config.role == "party0" and not model.public_weights and given.get("model"):
        return (
            "party 0 learns neither model nor weights: remove the section model, which is party 1's, or say "
            "model.public_weights = true in both files"
        )
    if config.role == "party0" and model.public_weights and model.name is None:
        return "model.public_weights = true: both parties know the model then: say model.name as party 1 does"
    return None


def _ranges(config: Config, given: dict[str, Any]) -> str | None:
    model = config.model
    if model.input_range is not None and not model.input_range[0] < model.input_range[1]:
        low, high = model.input_range
        return f"model.input_range = [{low:g}, {high:g}]: the first value must be below the second"
    if model.replace_activations is not None and model.samples is None:
        return "model.replace_activations fits polynomials on typical inputs: say model.samples, a .npy file"
    if model.batch & (model.batch - 1):
        return f"model.batch = {model.batch}: it must be a power of two"
    limits = config.limits
    if config.role == "server" and limits.owner_key_memory_mb > limits.key_memory_mb:
        return (
            f"limits.owner_key_memory_mb = {limits.owner_key_memory_mb} is above limits.key_memory_mb = "
            f"{limits.key_memory_mb}: lower the first or raise the second"
        )
    return None


def _stock(config: Config, given: dict[str, Any]) -> str | None:
    low, high = config.stock.low, config.stock.high
    if low > high or (high and not low):
        return f"stock.low = {low}, stock.high = {high}: low must be at least 1 and at most high, or both 0 for none"
    if high and config.peers.dealer is None:
        return f"stock.high = {high}: correlations are made ahead by a dealer: say peers.dealer, or stock.high = 0"
    return None


def _web(config: Config, given: dict[str, Any]) -> str | None:
    web = config.web
    if web is None:
        return None
    if (web.certificate is None) != (web.key is None):
        have, lack = ("certificate", "key") if web.key is None else ("key", "certificate")
        return f"web.{have} is given and web.{lack} is not: a certificate and its key go together"
    if config.role in PARTIES and config.peers.dealer is None:
        return "the section web needs a dealer, since a browser cannot deal: say peers.dealer, or remove [web]"
    return None
