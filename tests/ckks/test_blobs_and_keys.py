"""Blobs and keys: each way to be wrong is one clear error before any arithmetic; secrets stay where they are."""

from __future__ import annotations

import os
import signal
import stat
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secureimg.ckks import EvaluationKeys, Evaluator, OwnerKeys, Program, PublicProgram, compile  # noqa: A004
from secureimg.ckks.blobs import HEADER_BYTES, Kind, frame
from secureimg.ckks.runtime import read_input
from secureimg.ckks.sealio import save_raw
from secureimg.ckks.workers import WorkerError
from secureimg.errors import BlobError, BudgetError, DecryptionError, ImageError, KeyMaterialError, SecureImgError
from secureimg.graph import Graph, run_plain

from .graphs import small_classifier


@dataclass(frozen=True)
class World:
    """One owner, one server, and every blob between them."""

    graph: Graph
    program: Program
    keys: OwnerKeys
    evaluation: EvaluationKeys
    image: np.ndarray
    blobs: dict[str, bytes]

    def decode(self, kind: str, blob: bytes) -> object:
        public = self.program.public
        if kind == "program":
            return PublicProgram.from_bytes(blob)
        if kind == "keys":
            return EvaluationKeys.from_bytes(blob, public).load()
        if kind == "input":
            return read_input(public, blob, self.keys.key_id)
        return self.keys.decrypt(blob)


@pytest.fixture(scope="module")
def world() -> World:
    rng = np.random.default_rng(3)
    graph = small_classifier(rng, 8)
    program = compile(graph)
    keys = OwnerKeys.generate(program.public)
    evaluation = keys.evaluation_keys()
    image = rng.uniform(0, 1, (1, 1, 8, 8))
    question = keys.encrypt(image)
    with Evaluator(program) as evaluator:
        answer = evaluator.evaluate(evaluation, question)
    blobs = {
        "program": program.public.to_bytes(),
        "keys": evaluation.to_bytes(),
        "input": question,
        "output": answer,
    }
    return World(graph, program, keys, evaluation, image, blobs)


KINDS = ["program", "keys", "input", "output"]


@pytest.mark.parametrize("kind", KINDS)
def test_whole_blobs_decode(world: World, kind: str) -> None:
    """The fixtures are sound, so that the refusals below mean something."""
    world.decode(kind, world.blobs[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [0, 4, 6, 8, 40, 56, 63, 64, 95, HEADER_BYTES, HEADER_BYTES + 77, -1])
def test_a_flipped_byte_is_refused(world: World, kind: str, place: int) -> None:
    """Magic, version, kind, fingerprint, key id, length, digest, payload: any byte."""
    blob = bytearray(world.blobs[kind])
    blob[place] ^= 0x41
    with pytest.raises(BlobError):
        world.decode(kind, bytes(blob))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [0, 1, 4, 8, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 1, -1])
def test_a_cut_blob_is_refused(world: World, kind: str, length: int) -> None:
    """Every header boundary, and the last byte."""
    with pytest.raises(BlobError):
        world.decode(kind, world.blobs[kind][:length])


@pytest.mark.parametrize("kind", KINDS)
def test_leftovers_other_kinds_and_other_payloads_are_refused(world: World, kind: str) -> None:
    """Appended bytes; a sound blob of another kind; sound frames around payloads of the wrong size or content."""
    public, key = world.program.public.fingerprint_bytes, bytes.fromhex(world.keys.key_id)
    with pytest.raises(BlobError):
        world.decode(kind, world.blobs[kind] + b"\0")
    with pytest.raises(BlobError):
        world.decode(kind, world.blobs[KINDS[(KINDS.index(kind) + 1) % 4]])
    of = {"program": Kind.PROGRAM, "keys": Kind.EVALUATION_KEYS, "input": Kind.INPUT, "output": Kind.OUTPUT}[kind]
    payload = world.blobs[kind][HEADER_BYTES:]
    for hostile in (b"", payload[:-1], payload + b"\0", b"\xff" * len(payload)):
        with pytest.raises(BlobError):
            world.decode(kind, frame(of, hostile, public, key))


def test_other_keys_and_other_programs_are_refused(world: World) -> None:
    """A foreign key id or program fingerprint stops at the header."""
    other = OwnerKeys.generate(world.program.public)
    with pytest.raises(BlobError, match="belongs to key"):
        other.decrypt(world.blobs["output"])
    with Evaluator(world.program) as evaluator, pytest.raises(BlobError, match="belongs to key"):
        evaluator.evaluate(other.evaluation_keys(), world.blobs["input"])
    elsewhere = compile(small_classifier(np.random.default_rng(4), 8))
    with pytest.raises(BlobError, match="belongs to program"):
        EvaluationKeys.from_bytes(world.blobs["keys"], elsewhere.public)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ring_degree", 8191),
        ("ring_degree", 1024),
        ("data_bits", (60,) * 30),
        ("primes", (3, 5)),
        ("input_shape", (1 << 20, 1 << 20)),
        ("output_shape", (0,)),
        ("batch", 0),
        ("batch", 3),
        ("layout", "other"),
        ("gather", b"\xff\xff\xff\x7f" * 64),
        ("gather", b""),
        ("output_primes", 99),
        ("rotations", ((0, 1),)),
        ("rotations", ((1, 99),)),
        ("relinearisation", -1),
        ("error_bound", float("nan")),
        ("input_scale", -1.0),
    ],
)
def test_hostile_programs_are_refused(world: World, field: str, value: object) -> None:
    """A well-framed program that lies about itself."""
    body = msgspec.structs.replace(world.program.public.body, **{field: value})
    lying = PublicProgram(body)
    with pytest.raises(BlobError):
        PublicProgram.from_bytes(frame(Kind.PROGRAM, msgspec.msgpack.encode(body), lying.fingerprint_bytes))


@settings(max_examples=60)
@given(data=st.binary(max_size=400), kind=st.sampled_from(KINDS), keep=st.integers(0, HEADER_BYTES))
def test_any_bytes_give_one_of_our_errors(world: World, data: bytes, kind: str, keep: int) -> None:
    """Random bytes behind any part of a sound header."""
    with pytest.raises(SecureImgError):
        world.decode(kind, world.blobs[kind][:keep] + data)


def test_a_tampered_answer_is_refused(world: World) -> None:
    """Coefficients changed by someone who recomputes the digest: the noise shows in slots that must be empty or equal."""
    payload = bytearray(world.blobs["output"][HEADER_BYTES:])
    payload[0] ^= 1
    payload[2] ^= 0x5A
    forged = frame(Kind.OUTPUT, payload, world.program.public.fingerprint_bytes, bytes.fromhex(world.keys.key_id))
    with pytest.raises((DecryptionError, BlobError)):
        world.keys.decrypt(forged)


def test_an_answer_under_another_secret_is_refused(world: World) -> None:
    """The right key id over the wrong secret decrypts to noise, and noise is not an answer."""
    other = OwnerKeys.generate(world.program.public)
    other.key_id = world.keys.key_id
    with pytest.raises(DecryptionError, match="must be empty or equal"):
        other.decrypt(world.blobs["output"])


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan"), float("inf")])
def test_inputs_out_of_range_are_refused(world: World, value: float) -> None:
    """Before they are encrypted."""
    image = world.image.copy()
    image[0, 0, 0, 0] = value
    with pytest.raises(ImageError, match="within"):
        world.keys.encrypt(image)
    with pytest.raises(ImageError, match="shape"):
        world.keys.encrypt(np.zeros((1, 1, 9, 9)))


@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_key_files(world: World, tmp_path: Path, passphrase: str | None) -> None:
    """0600, readable again, never overwritten, refused when open to others, damaged, of another program or passphrase."""
    path = tmp_path / "owner.key"
    world.keys.save(path, passphrase)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = OwnerKeys.load(path, world.program.public, passphrase)
    np.testing.assert_array_equal(again.decrypt(world.blobs["output"]), world.keys.decrypt(world.blobs["output"]))
    with pytest.raises(KeyMaterialError, match="exists"):
        world.keys.save(path, passphrase)
    if passphrase is not None:
        assert save_raw(world.keys._secret)[64:128] not in path.read_bytes()
        for wrong in (None, "incorrect horse"):
            with pytest.raises(KeyMaterialError):
                OwnerKeys.load(path, world.program.public, wrong)
    elsewhere = compile(small_classifier(np.random.default_rng(4), 8))
    with pytest.raises(KeyMaterialError, match="program"):
        OwnerKeys.load(path, elsewhere.public, passphrase)
    blob = bytearray(path.read_bytes())
    blob[-9] ^= 1
    path.write_bytes(blob)
    with pytest.raises(KeyMaterialError):
        OwnerKeys.load(path, world.program.public, passphrase)
    path.chmod(0o644)
    with pytest.raises(KeyMaterialError, match="chmod 600"):
        OwnerKeys.load(path, world.program.public, passphrase)


def test_no_secret_in_a_repr(world: World) -> None:
    """Neither the key nor anything made from it."""
    secret = save_raw(world.keys._secret)
    for thing in (world.keys, world.evaluation):
        text = repr(thing)
        assert len(text) < 200
        assert secret[64:72].hex() not in text


def test_the_server_side_holds_nothing_that_decrypts(world: World) -> None:
    """Evaluation keys and evaluators have no secret key and no decrypt."""
    with Evaluator(world.program) as evaluator:
        evaluator.evaluate(world.evaluation, world.blobs["input"])
        for thing in (evaluator, world.evaluation, world.evaluation.load()):
            names = set(dir(thing))
            assert not {name for name in names if "decrypt" in name or "secret" in name}


def test_releases_are_noisy_rounded_counted_and_limited(tmp_path: Path) -> None:
    """Flooding noise, multiples of 2^-bits, a budget that survives a restart, and a remedy where bits are too many."""
    rng = np.random.default_rng(5)
    graph = small_classifier(rng, 8)
    program = compile(graph, precision=2.0**-31)
    keys = OwnerKeys.generate(program.public, release_budget=2)
    keys.save(tmp_path / "k")
    image = rng.uniform(0, 1, (1, 1, 8, 8))
    with Evaluator(program) as evaluator:
        answer = evaluator.evaluate(keys.evaluation_keys(), keys.encrypt(image))
    with pytest.raises(BudgetError, match="at most"):
        keys.release(answer, bits=40)
    found = keys.release(answer, bits=4)
    assert np.all(found * 16 == np.round(found * 16))
    assert np.abs(found - run_plain(graph, image)).max() < 2.0**-3
    again = OwnerKeys.load(tmp_path / "k", program.public)
    assert again.releases == 1
    again.release(answer, bits=4)
    with pytest.raises(BudgetError, match="make new keys"):
        OwnerKeys.load(tmp_path / "k", program.public).release(answer, bits=4)


def test_a_killed_helper_is_an_error_and_then_replaced(world: World) -> None:
    """The evaluation that loses its helper fails with a clear error; the next one works."""
    with Evaluator(world.program, workers=2) as evaluator:
        evaluator.evaluate(world.evaluation, world.blobs["input"])
        os.kill(evaluator.helpers[0], signal.SIGKILL)
        with pytest.raises(WorkerError, match="helper"):
            evaluator.evaluate(world.evaluation, world.blobs["input"])
        answer = evaluator.evaluate(world.evaluation, world.blobs["input"])
    np.testing.assert_allclose(world.keys.decrypt(answer), run_plain(world.graph, world.image), atol=1e-2)
