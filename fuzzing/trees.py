"""Changes to decoded structure: a value of another type, a boundary, a missing or a doubled entry, a deep nest.

Structure-blind damage to msgpack or JSON mostly breaks the encoding. These mutants are well-formed and wrong in one place,
so they reach the checks behind the parser.
"""

from __future__ import annotations

import copy
import datetime
import json
import math
import random
import tomllib
from collections.abc import Callable
from typing import Any, Final

import msgspec

__all__ = ["altered", "json_codec", "msgpack_codec", "toml_codec"]

_DEEPEST: Final = 24
_VALUES: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 8, 31, 32, 63, 64, 65, 127, 255, 256, 4095, 4096, 65535, 65536, 2**20, 2**26,
    2**31, -(2**31), 2**53, 2**62, 2**63 - 1, -(2**63), 2**64 - 1, 0.0, -0.0, 0.5, 1e-320, 1e308, -1e308, math.inf,
    -math.inf, math.nan, "", "a", "0" * 32, "f" * 64, "\x00", "\x1b[2J", "\u202e", "é" * 50, "x" * 5000,
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2030-02-30T00:00:00Z", "::1", "999.1.1.1:99999", b"",
    b"\0" * 4, b"\xff" * 32, [], {}, [[]], [0] * 9, [None] * 300, {"": 0}, {"a": {"a": {}}},
)  # fmt: skip


def altered(tree: Any, rng: random.Random) -> Any:
    """Return the tree, changed in one or a few places. Lists and maps in it are changed in place."""
    for _ in range(1 if rng.random() < 0.7 else 1 + int(rng.random() * 4)):
        tree = _alter(tree, rng, 0)
    return tree


def _alter(node: Any, rng: random.Random, depth: int) -> Any:
    if isinstance(node, (list, tuple)) and node and depth < _DEEPEST and rng.random() < 0.93:
        items = list(node)
        place = int(rng.random() * len(items))
        chance = rng.random()
        if chance < 0.06:
            del items[place]
        elif chance < 0.12:
            items.insert(place, items[int(rng.random() * len(items))])
        elif chance < 0.16:
            rng.shuffle(items)
        else:
            items[place] = _alter(items[place], rng, depth + 1)
        return items
    if isinstance(node, dict) and node and depth < _DEEPEST and rng.random() < 0.96:
        keys = list(node)
        key = keys[int(rng.random() * len(keys))]
        chance = rng.random()
        if chance < 0.05:
            del node[key]
        elif chance < 0.08:
            node[rng.choice(("", "extra", "type", key[:-1] if isinstance(key, str) else "k"))] = _fresh(rng)
        elif chance < 0.12:
            node[key] = node[keys[int(rng.random() * len(keys))]]
        else:
            node[key] = _alter(node[key], rng, depth + 1)
        return node
    return _leaf(node, rng)


def _leaf(node: Any, rng: random.Random) -> Any:
    chance = rng.random()
    if chance < 0.35:
        return _fresh(rng)
    if isinstance(node, bool) or node is None:
        return _fresh(rng)
    if isinstance(node, int):
        if chance < 0.5:
            return -node
        return max(-(2**63), min(2**64 - 1, node + rng.choice((-2, -1, 1, 2, node, 1 << int(rng.random() * 40)))))
    if isinstance(node, float):
        return rng.choice((-node, node * 2, node / 2, node * 1e30, node + 1, int(node) if math.isfinite(node) else 0))
    if isinstance(node, str):
        place = int(rng.random() * (len(node) + 1))
        piece = rng.choice(("", "x", "0", " ", "\n", "\x00", "é", "/../", "Z", node[:8]))
        return node[:place] + piece + node[place + int(rng.random() * 3) :]
    if isinstance(node, bytes):
        data = bytearray(node)
        if not data or chance < 0.5:
            return bytes(data) + rng.randbytes(1 + int(rng.random() * 8))
        if chance < 0.6:
            return bytes(data[: int(rng.random() * len(data))])
        data[int(rng.random() * len(data))] = int(rng.random() * 256)
        return bytes(data)
    return _fresh(rng)


def _fresh(rng: random.Random) -> Any:
    value = copy.deepcopy(_VALUES[int(rng.random() * len(_VALUES))])  # what it is put into may be changed again
    if rng.random() < 0.02:
        for _ in range(rng.choice((5, 60, 3000))):
            value = [value]
    return value


def msgpack_codec(
    opened: Callable[[bytes], bytes], sealed: Callable[[bytes, bytes], bytes]
) -> Callable[[bytes, random.Random], bytes]:
    """Return a `TreeCodec` for an encoding with msgpack in it.

    Parameters
    ----------
    opened : callable
        Returns the msgpack of a valid encoding.
    sealed : callable
        Takes the valid encoding and other msgpack; returns the encoding with that in it, digests and lengths right.
    """

    def change(base: bytes, rng: random.Random) -> bytes:
        tree = msgspec.msgpack.decode(opened(base))
        try:
            changed = msgspec.msgpack.encode(altered(tree, rng))
        except (RecursionError, OverflowError, UnicodeEncodeError, TypeError):  # nothing that could be sent
            return base
        return sealed(base, changed)

    return change


def json_codec(base: bytes, rng: random.Random) -> bytes:
    """Change a JSON text."""
    try:
        return json.dumps(altered(json.loads(base), rng), default=repr, skipkeys=True).encode()
    except (RecursionError, UnicodeEncodeError):
        return b"[" * 3000


def toml_codec(base: bytes, rng: random.Random) -> bytes:
    """Change a TOML text; comments go."""
    tree = altered(tomllib.loads(base.decode()), rng)
    if not isinstance(tree, dict):
        return b"v = " + _toml_value(tree).encode()
    lines = [f"{_toml_key(key)} = {_toml_value(value)}" for key, value in tree.items() if not isinstance(value, dict)]
    for name, table in tree.items():
        if isinstance(table, dict):
            lines.append(f"[{_toml_key(name)}]")
            lines += [f"{_toml_key(key)} = {_toml_value(value)}" for key, value in table.items()]
    return "\n".join(lines).encode(errors="replace")


def _toml_key(key: Any) -> str:
    return json.dumps(str(key))


def _toml_value(value: Any, depth: int = 0) -> str:
    if depth > 100:  # the writer stops, the reader shall see a deeper one
        return "[" * 1000
    if isinstance(value, bool) or value is None:
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(item, depth + 1) for item in value) + "]"
    if isinstance(value, dict):
        inside = (f"{_toml_key(key)} = {_toml_value(item, depth + 1)}" for key, item in value.items())
        return "{" + ", ".join(inside) + "}"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return json.dumps(
        value if isinstance(value, str) else value.decode("latin-1") if isinstance(value, bytes) else str(value)
    )
