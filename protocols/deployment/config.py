"""A process's TOML file, read into `Config`: what is wrong with it ends in one error that names key, value and remedy."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import structs

from protocols.deployment.keys import keys_of
from protocols.deployment.model_names import with_files
from protocols.deployment.rules import broken_rule
from protocols.deployment.settings import PORTS, ROLES, STOCK, TOKENS, Address, Config, Fingerprint, Role
from secureimg.errors import SecureImgError

__all__ = ["MAX_BYTES", "ConfigError", "load", "parse", "read_value"]

MAX_BYTES: Final = 1 << 20
_TYPES: Final = {
    "int": "a whole number", "float": "a number", "bool": "true or false", "str": "text in quotes", "array": "a list",
    "object": "a section", "null": "nothing", "str | null": "text in quotes", "int | null": "a whole number",
    "float | null": "a number", "array | null": "a list",
}  # fmt: skip
"""What msgspec calls types, for people."""
_SHOWN: Final = 80


class ConfigError(SecureImgError):
    """A configuration file cannot be used."""


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a process's file.

    Parameters
    ----------
    path : Path
        A TOML file of at most 1 MiB. Relative paths in it are relative to its directory.
    overrides : sequence of str
        `section.key=value`, the value in TOML's syntax; they count as if they stood in the file.

    Raises
    ------
    ConfigError
        If it cannot be read, or something in it is not as it must be.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}: `secureimg config init` makes one"
        ) from None
    return parse(data, path, overrides)


def parse(data: bytes, path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read the bytes of such a file; `path` names it in errors and is what relative paths start from."""
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES} bytes: is it the right file?")
    table = _toml(data, str(path))
    for text in overrides:
        _override(table, text)
    role = _role(table, path)
    _check_keys(table, role, path)
    _fill(table, role)
    base = path.absolute().parent

    def decode(kind: type, value: Any) -> Any:
        if not isinstance(value, str):
            raise TypeError(f"is a {type(value).__name__}, expected is text in quotes")
        if kind is not Path:
            return kind(value)
        if not value or any(ord(letter) < 32 or letter == "\x7f" for letter in value):
            raise ValueError("is not a path: it is empty or has control characters")
        return base / value

    try:
        config = msgspec.convert(table, Config, dec_hook=decode)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_explain(str(error), table)}") from None
    if config.model.name is not None:
        name = with_files(config.model.name, lambda file: str(base / file))
        config = structs.replace(config, model=structs.replace(config.model, name=name))
    trouble = broken_rule(config, table)
    if trouble is not None:
        raise ConfigError(f"{path}: {trouble}")
    return config


# --------------------------------------------------------------------------------------------------------------- reading


def _toml(data: bytes, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not UTF-8 text (byte {error.start}): is it the right file?") from None
    except (ValueError, RecursionError) as error:
        said = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(
            f"{name} is not TOML: {said}: mend it, or make a new one by `secureimg config init`"
        ) from None


def read_value(text: str) -> tuple[str, Any]:
    """Read `section.key=value`, the value in TOML's syntax.

    Raises
    ------
    ConfigError
        If it is not that.
    """
    name, equals, value = text.partition("=")
    name = name.strip()
    if not equals or not all(re.fullmatch("[A-Za-z0-9_-]+", word) for word in name.split(".")):
        raise ConfigError(f"--set {_show(text)} is not KEY=VALUE: write it like --set limits.queue=4")
    try:
        parsed = tomllib.loads(f"v = {value}")
    except (ValueError, RecursionError):
        parsed = {}
    if set(parsed) != {"v"}:
        raise ConfigError(
            f"--set {_show(text)}: the value is not TOML: write text in quotes, like --set 'log.level=\"DEBUG\"'"
        )
    return name, parsed["v"]


def _override(table: dict[str, Any], text: str) -> None:
    name, value = read_value(text)
    *sections, last = name.split(".")
    inner: Any = table
    for word in sections:
        inner = inner.setdefault(word, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {_show(text)}: {word} is no section")
    inner[last] = value


def _role(table: dict[str, Any], path: Path) -> Role:
    """Find the role first: which keys are known depends on it."""
    given = table.get("role")
    for role in ROLES:
        if given == role:
            return role
    if given is None:
        raise ConfigError(f"{path}: the key role is missing: say one of {', '.join(ROLES)}")
    raise ConfigError(f"{path}: role is {_show(given)}: say one of {', '.join(ROLES)}{_like(str(given), ROLES)}")


def _check_keys(table: dict[str, Any], role: Role, path: Path) -> None:
    """Refuse what nobody would read."""
    every = {key.path: key for key in keys_of()}
    sections = {key.section for key in every.values()} - {""}
    for name, value in table.items():
        inside = [f"{name}.{inner}" for inner in value] if name in sections and isinstance(value, dict) else [name]
        for dotted in inside:
            key = every.get(dotted)
            if key is None and dotted in sections:
                raise ConfigError(f"{path}: {dotted} is a section: write its keys under [{dotted}], not {_show(value)}")
            if key is None:
                section = dotted.rpartition(".")[0]
                known = [key.name for key in keys_of(role) if key.section == section]
                known += [] if section else sorted({key.section for key in keys_of(role)} - {""})
                where = f"[{section}] of role {role}" if section else f"role {role}"
                raise ConfigError(
                    f"{path}: the key {_show(dotted)} is not known{_like(dotted.rpartition('.')[2], known)}; {where} has: "
                    f"{', '.join(known) or 'no keys'}"
                )
            if role not in key.roles:
                raise ConfigError(
                    f"{path}: the key {dotted} is not for role {role}, but for {', '.join(key.roles)}: remove it"
                )


def _fill(table: dict[str, Any], role: Role) -> None:
    """Add the defaults that depend on the role, and on what else was said."""
    for section, ports in PORTS.items():
        if section == "listen":
            table.setdefault(section, {})
        if role in ports and isinstance(table.get(section), dict):
            table[section].setdefault("port", ports[role])
    if isinstance(table.get("web"), dict):
        table["web"].setdefault("tokens", TOKENS.format(role=role))
    table.setdefault("state", "state")
    if role == "party0" and isinstance(table.setdefault("stock", {}), dict):
        dealer = isinstance(table.get("peers"), dict) and "dealer" in table["peers"]
        _fill_stock(table["stock"], dealer and "aggregation" not in table)


def _fill_stock(stock: dict[str, Any], dealer: bool) -> None:
    """With a dealer, correlations are made ahead unless the file says otherwise."""
    low, high = STOCK if dealer else (0, 0)
    if isinstance(stock.get("high"), int):
        low = min(STOCK[0], stock["high"])
    if isinstance(stock.get("low"), int):
        high = max(high, stock["low"]) if stock["low"] else 0
    stock.setdefault("low", low)
    stock.setdefault("high", high)


# ---------------------------------------------------------------------------------------------------------------- errors


def _explain(said: str, table: dict[str, Any]) -> str:
    """Make a sentence of msgspec's `Expected X, got Y - at $.section.key`."""
    what, _, where = said.partition(" - at `$")
    dotted = where.strip("`.")
    if what.startswith("Object missing required field"):
        name = ".".join(filter(None, (dotted, what.split("`")[1])))
        return f"the key {name} is missing: {_meaning(name)}"
    value: Any = table
    for word in filter(None, re.split(r"\.|\[(\d+)\]", dotted)):
        value = value[int(word)] if isinstance(value, list) else value[word] if isinstance(value, dict) else value
    if what.startswith("Invalid enum value"):
        what = "is not one of its words"
    for word, told in _TYPES.items():
        what = what.replace(f"`{word}`", told)
    remedy = _meaning(dotted.partition("[")[0])
    return f"{dotted} = {_show(value)}: {what[0].lower()}{what[1:]}. {remedy}".rstrip()


def _meaning(dotted: str) -> str:
    return next((key.sentence for key in keys_of() if key.path == dotted), "")


def _like(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word[:_SHOWN], known, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _show(value: Any) -> str:
    text = repr(str(value)) if isinstance(value, str | Address | Fingerprint) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
