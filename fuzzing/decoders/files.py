"""Other files: galleries of templates, and what a deployment keeps on disk."""

from __future__ import annotations

import datetime
import hashlib
import random
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from fuzzing.decoders.scratch import written
from fuzzing.targets import Target
from fuzzing.trees import json_codec, msgpack_codec, toml_codec
from protocols.deployment.config import parse
from protocols.deployment.settings import Role
from protocols.deployment.template import template
from protocols.galleries import Gallery, decode_gallery, encode_gallery
from protocols.operations.audit_chain import GENESIS, Chain, Fact, Record
from protocols.operations.audit_reading import in_order, verify
from protocols.owner_limits import OwnerGate, OwnerLimits
from protocols.web.tokens import TokenFile, make_entry, read_entries
from protocols.web.tokens import _text as token_text

__all__ = ["make_targets"]

_WHERE: Final = Path("/etc/secureimg/process.toml")

_GALLERY_HEADER: Final = 49


def _galleries() -> list[bytes]:
    rng = np.random.default_rng(4)
    raw = rng.normal(size=(3, 4)).astype(np.float32)
    unit = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
    pictures = (np.zeros((2, 3), np.uint8), np.zeros((2, 3, 3), np.uint8), np.ones((1, 1), np.uint8))
    return [
        encode_gallery(Gallery("net", None, "ab" * 32, "cosine", (0.5, 2.0), ("a", "b", "b"), unit, None)),
        encode_gallery(Gallery("net", "layer", "ab" * 32, "sqeuclidean", (0.0, 9.0), ("a", "b", "é"), raw, pictures)),
    ]


def _gallery(head: bytes, body: bytes) -> bytes:
    digest = hashlib.sha256(head + body).digest()
    return b"SGAL\x01" + len(head).to_bytes(4, "big") + len(body).to_bytes(8, "big") + digest + head + body


def _parts(data: bytes) -> tuple[bytes, bytes]:
    middle = _GALLERY_HEADER + int.from_bytes(data[5:9], "big")
    return data[_GALLERY_HEADER:middle], data[middle:]


# ----------------------------------------------------------------------------------------------------------- audit logs


def _audit_log() -> list[bytes]:
    chain = Chain()
    lines: list[bytes] = []
    events: tuple[tuple[str, str, dict[str, Fact]], ...] = (
        ("event", "", {"what": "start"}),
        ("opened", "ab" * 32, {"model": "net", "program": "cd" * 32, "dealer": None}),
        ("answered", "ab" * 32, {"images": 2, "seconds": 0.25, "reveal": "label", "last": True}),
        ("closed", "ab" * 32, {}),
    )
    for event, owner, facts in events:
        line = Record.now(chain.sequence + 1, chain.head, event, owner, facts).line()
        chain.check(line, "the seed", first=not lines)
        lines.append(line + b"\n")
    return [b"".join(lines), b"".join(lines)[:-7]]


def _decode_audit(data: bytes) -> object:
    path = written(data, ".audit")
    in_order([path])
    return verify([path])


def _chained(data: bytes) -> bytes:
    """Every line that is a record, numbered and chained again."""
    out, head, number = [], GENESIS, 0
    for line in data.split(b"\n"):
        try:
            record = msgspec.json.decode(line, type=Record)
            number += 1
            fixed = msgspec.structs.replace(record, sequence=number, prev=head).line()
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            fixed = line
        head = hashlib.sha256(fixed).hexdigest()
        out.append(fixed)
    return b"\n".join(out)


def _change_audit(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    place = int(rng.random() * (len(lines) - 1))
    lines[place] = json_codec(lines[place], rng)
    return _chained(b"\n".join(lines))


# -------------------------------------------------------------------------------------------------------- configuration


def _configurations() -> list[bytes]:
    given: dict[Role, dict[str, Any]] = {
        "server": {"identity": "server.pem", "model.name": "mnist-cnn", "model.batch": 2, "limits.queue": 3},
        "party0": {"identity": "party-0.pem", "peers.party1": "192.0.2.7:7441", "peers.dealer": "[2001:db8::1]:7440"},
        "party1": {"identity": "party-1.pem", "model.name": "mnist-cnn", "model.reveal": "label",
                   "dealing.client_aided": True, "pins.owners": ["ab" * 32]},
        "dealer": {"identity": "dealer.pem", "log.level": "DEBUG"},
    }  # fmt: skip
    texts = [template(role, values, _WHERE) for role, values in given.items()]
    plain = """role = "party0"
identity = "party-0.pem"
state = "state"
[listen]
host = "127.0.0.1"
port = 7442
[peers]
party1 = "192.0.2.7:7441"
dealer = "192.0.2.8:7440"
[dealing]
client_aided = false
[stock]
low = 4
high = 16
[limits]
idle = 60.5
[owners]
requests_per_minute = 600
images_per_request = 64
[operations]
port = 9000
[log]
level = "INFO"
format = "json"
"""
    return [text.encode() for text in (*texts, plain)]


# -------------------------------------------------------------------------------------------------------- owners' tokens


def _token_files() -> list[bytes]:
    soon = datetime.datetime(2030, 1, 31, 12, 30, tzinfo=datetime.UTC)
    secrets = ("a" * 43, "b" * 43)
    entries = [make_entry("party0", f"owner {number}", secret, soon) for number, secret in enumerate(secrets)]
    return [token_text(entries), token_text(entries[:1]), b"# nobody\n"]


def _decode_tokens(data: bytes) -> object:
    entries = read_entries(written(data, ".toml"))
    again = read_entries(written(token_text(entries), ".again"))
    if [entry.digest for entry in again] != [entry.digest for entry in entries]:
        raise AssertionError("a token file that was read and written again is another one")
    for entry in TokenFile(written(data, ".toml"))._current():
        entry.expires < datetime.datetime.now(datetime.UTC)  # noqa: B015 - it can be compared
    return entries


def _decode_configuration(data: bytes) -> object:
    return parse(data, _WHERE)


# ------------------------------------------------------------------------------------------------- count of releases


def _release_counts() -> list[bytes]:
    folder = _state(b"")
    (folder / "releases.sqlite").unlink()
    gate = OwnerGate(OwnerLimits(releases=100), folder)
    for owner in ("ab" * 32, "cd" * 32):
        gate.release(owner, 3)
    gate.close()
    return [(folder / "releases.sqlite").read_bytes()]


def _decode_release_counts(data: bytes) -> object:
    gate = OwnerGate(OwnerLimits(releases=100), _state(data))
    try:
        gate.release("ab" * 32, 1)
    finally:
        gate.close()
    return gate


def _state(data: bytes) -> Path:
    """A state directory of this process's own, with such a file in it and nothing else."""
    folder = written(b"", ".none").with_suffix(".state")
    folder.mkdir(mode=0o700, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    (folder / "releases.sqlite").write_bytes(data)
    return folder


def make_targets() -> list[Target]:
    """Galleries, audit logs, configurations, token files, counts."""
    return [
        Target(
            "gallery", "a gallery of enrolled templates", lambda data: decode_gallery(data, "the gallery"), _galleries,
            lambda data: _gallery(*_parts(data)),
            msgpack_codec(lambda data: _parts(data)[0], lambda base, head: _gallery(head, _parts(base)[1])),
        ),
        Target("audit-log", "a file of the audit log", _decode_audit, _audit_log, _chained, _change_audit),
        Target(
            "configuration", "a process's TOML file", _decode_configuration, _configurations, None, toml_codec,
        ),
        Target(
            "release-counts", "how many images each owner was answered (SQLite)", _decode_release_counts, _release_counts,
        ),
        Target("token-file", "a process's file of owners' tokens", _decode_tokens, _token_files, None, toml_codec),
    ]  # fmt: skip
