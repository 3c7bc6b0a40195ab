"""A process's TOML file, written: with a line for every key, or with no more than what was given."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from protocols.deployment.config import ConfigError, parse
from protocols.deployment.keys import Key, keys_of
from protocols.deployment.settings import EXAMPLES, Config, Role

__all__ = ["plain_text", "template", "toml_value"]

_WHAT: Final[dict[Role, str]] = {
    "server": "a server that evaluates a model on CKKS ciphertexts",
    "party0": "party 0 of two that compute on additive shares: it has no weights, and dials party 1",
    "party1": "party 1 of two that compute on additive shares: it has the model",
    "dealer": "a dealer: it makes correlated randomness for the two parties and must not collude with either",
}

_SECTIONS: Final = {
    "pins": "Only these certificates are accepted for a role (SHA-256 fingerprints, see `secureimg pki check`).",
    "limits": "What the process grants to all together.",
    "owners": "What one owner, that is one certificate or token, may ask for.",
    "aggregation": "Training across owners instead of a model: the terms of its rounds. Off unless this section is there.",
    "web": "The page, and HTTPS for owners without a certificate. Off unless this section is there.",
    "operations": "Metrics and health over HTTPS, for certificates of the role operator. Off unless this section is there.",
    "stock": "Correlations for one image, made ahead by the dealer; none without one.",
}

_OPTIONAL: Final = ("web", "operations", "aggregation")


def template(role: Role, given: Mapping[str, Any], path: Path) -> str:
    """Return a commented file: every key of a role with its meaning and default, and what was given filled in.

    Parameters
    ----------
    role : str
    given : mapping
        Values by dotted key, like "listen.port".
    path : Path
        Where it will stand.

    Raises
    ------
    ConfigError
        If what was given does not make a sound configuration.
    """
    values = {"role": role, **given}
    _check(values, path)
    lines = [
        f"# secureimg: {_WHAT[role]}.",
        f"# Check this file with `secureimg doctor {path.name}`, run it with `secureimg serve {path.name}`.",
        "# A line like `#port = 7443` shows what holds unless it is changed. Paths are relative to this file.",
    ]
    section = ""
    for key in keys_of(role):
        if key.section != section:
            section = key.section
            lines += ["", *_head(section, any(name.startswith(f"{section}.") for name in values))]
        elif not section:
            lines.append("")
        lines += _entry(key, values)
    text = "\n".join(lines) + "\n"
    parse(text.encode(), path)
    return text


def plain_text(role: Role, given: Mapping[str, Any]) -> str:
    """Return a file with what is given and nothing else, for processes that a command starts itself."""
    sections: dict[str, list[str]] = {"": []}
    for dotted, value in {"role": role, **given}.items():
        section, _, name = dotted.rpartition(".")
        sections.setdefault(section, []).append(f"{name} = {toml_value(value)}")
    return "".join(
        (f"\n[{section}]\n" if section else "") + "\n".join(lines) + "\n" for section, lines in sections.items()
    )


def toml_value(value: Any) -> str:
    """Return a text, number, truth value, path, or list of them in TOML's syntax.

    Raises
    ------
    ConfigError
        If a text is not one, or the value is of no such type.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):
        text = json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
        if re.search("[\ud800-\udfff]", text):
            raise ConfigError(f"{ascii(str(value))[:80]} is not text: name files in UTF-8")
        return text
    if isinstance(value, tuple | list | frozenset):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    raise ConfigError(f"a {type(value).__name__} has no place in a configuration file")


def _check(values: Mapping[str, Any], path: Path) -> Config:
    role: Role = values["role"]
    return parse(plain_text(role, values).encode(), path)


def _head(section: str, wanted: bool) -> Iterator[str]:
    if section in _SECTIONS:
        yield f"# {_SECTIONS[section]}"
    yield f"#[{section}]" if section in _OPTIONAL and not wanted else f"[{section}]"


def _entry(key: Key, values: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {key.sentence}"
    if key.path in values:
        yield f"{key.name} = {toml_value(values[key.path])}"
    elif key.default is None:
        yield f"# For example: {key.name} = {toml_value(EXAMPLES[key.path])}"
    else:
        yield f"#{key.name} = {toml_value(key.default)}"
