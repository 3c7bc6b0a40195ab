"""The keys of a process's file, as a list: for errors that say which there are, and for files that explain themselves."""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import structs

from protocols.deployment.settings import PORTS, STOCK, TOKENS, Config, Role

__all__ = ["Key", "keys_of"]


class Key(NamedTuple):
    """A key that a file may have.

    Attributes
    ----------
    section : str
        Empty for keys at the top.
    default : object
        None if there is none.
    words : tuple of str
        The only values, if they are words.
    """

    section: str
    name: str
    meaning: str
    roles: tuple[Role, ...]
    default: Any
    words: tuple[str, ...]

    @property
    def path(self) -> str:
        """Dotted, as in errors and `--set`."""
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def sentence(self) -> str:
        """What it means, and which words it takes."""
        return f"{self.meaning} One of: {', '.join(self.words)}." if self.words else self.meaning


@functools.cache
def keys_of(role: Role | None = None) -> tuple[Key, ...]:
    """Return the keys that a role's file may have (all without a role), in the order of the file."""
    found = (key for key in _keys(Config, "") if role is None or role in key.roles)
    return tuple(key._replace(default=_default(key, role)) for key in found)


def _keys(struct: type[msgspec.Struct], section: str) -> Iterator[Key]:
    hints = typing.get_type_hints(struct, include_extras=True)
    for field in structs.fields(struct):
        hint = hints[field.name]
        inner = next((kind for kind in (hint, *typing.get_args(hint)) if _is_section(kind)), None)
        if inner is not None:
            yield from _keys(inner, field.name)
            continue
        meta = next(item for item in hint.__metadata__ if isinstance(item, msgspec.Meta) and item.extra)
        default = None if field.default is msgspec.NODEFAULT else field.default
        assert meta.extra is not None
        plain = typing.get_args(hint)[0]
        words = typing.get_args(plain) if typing.get_origin(plain) is typing.Literal else ()
        yield Key(section, field.name, meta.description or "", meta.extra["roles"], default, words)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _default(key: Key, role: Role | None) -> Any:
    if key.section == "stock":
        return STOCK[key.name == "high"]
    if role is None:
        return key.default
    if key.path == "web.tokens":
        return Path(TOKENS.format(role=role))
    return PORTS[key.section].get(role) if key.name == "port" else key.default
