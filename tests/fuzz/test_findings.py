"""Inputs that once escaped, each the smallest of its kind: they end in one error of secureimg now."""

from __future__ import annotations

import base64
import sqlite3
import time
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from onnx import TensorProto, helper, numpy_helper

from fuzzing.decoders.worlds import KEY_ID, ckks_world
from protocols.owner_limits import OwnerGate, OwnerLimits
from protocols.pki import Bundle
from protocols.pki.bundles import load_authorities
from protocols.pki.certificates import make_authority, new_key
from protocols.program_file import decode_program, encode_program
from secureimg import ckks
from secureimg.ckks.blobs import Kind, frame
from secureimg.errors import BlobError, GraphError, ImageError, KeyMaterialError, UnsupportedModelError
from secureimg.graph import load_onnx
from secureimg.graph.shipped import read_card
from secureimg.images import load_tensor_npy


def private(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def content(**changes: object) -> bytes:
    """What is in a key file, with some of it changed."""
    body = {"program": bytes(32), "key_id": KEY_ID, "budget": 1, "releases": 0, "secret": b""}
    return msgspec.msgpack.encode(body | changes)


@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param(content().replace(b"key_id", b"\xff\xfe_id"), id="names that are not UTF-8"),
        pytest.param(content(key_id="zz" * 16), id="a key id that is not hexadecimal"),
        pytest.param(content(releases=-5), id="fewer than no releases"),
    ],
)
def test_a_damaged_key_file(damaged: bytes, tmp_path: Path) -> None:
    path = private(tmp_path / "owner.key", frame(Kind.OWNER_KEYS, damaged))
    with pytest.raises(KeyMaterialError, match="not a usable key file"):
        ckks.OwnerKeys.load(path, ckks_world().public)


def test_a_sealed_key_file_shorter_than_its_nonce(tmp_path: Path) -> None:
    path = private(tmp_path / "owner.key", frame(Kind.SEALED_OWNER_KEYS, bytes(20)))
    with pytest.raises(KeyMaterialError, match="fewer than a salt and a nonce"):
        ckks.OwnerKeys.load(path, ckks_world().public, "passphrase")


def test_a_program_file_with_bytes_after_its_end() -> None:
    data = encode_program("net", ckks_world().public, None)
    decode_program(data, "the file")
    with pytest.raises(BlobError, match="not a whole program file"):
        decode_program(data + b"\0", "the file")


def test_a_program_of_the_largest_ring_is_refused_by_its_fingerprint_before_its_context_is_made() -> None:
    """A context of ring degree 32768 takes two thirds of a second: not for bytes that a flipped bit already gives away."""
    public = ckks_world().public
    bits = (60, *(40,) * 16)
    body = msgspec.structs.replace(public.body, ring_degree=32768, data_bits=bits, special_bits=60)
    damaged = frame(Kind.PROGRAM, msgspec.msgpack.encode(body), public.fingerprint_bytes)
    start = time.process_time()
    with pytest.raises(BlobError, match="fingerprint"):
        ckks.PublicProgram.from_bytes(damaged)
    assert time.process_time() - start < 0.1


@pytest.mark.parametrize("field", ["input_shape", "output_shape"])
def test_a_program_whose_shape_has_two_negative_sides(field: str) -> None:
    """Their product is positive."""
    public = ckks_world().public
    shape = getattr(public.body, field)
    damaged = msgspec.structs.replace(public.body, **{field: (-shape[0], -shape[1], *shape[2:])})
    with pytest.raises(BlobError, match="shapes"):
        ckks.PublicProgram.from_bytes(ckks.PublicProgram(damaged).to_bytes())


def test_an_array_with_a_header_of_spaces() -> None:
    """numpy takes time that grows with the square of them."""
    text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1, 1, 1), }" + b" " * 9000 + b"$\n"
    start = time.process_time()
    with pytest.raises(ImageError, match="damaged"):
        load_tensor_npy(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"\0")
    assert time.process_time() - start < 0.5


def test_a_model_card_with_an_endless_seed() -> None:
    card = (
        '{"name": "n", "title": "t", "file": "f", "preprocessing": {"mode": "L", "mean": [0], "std": [1]}, '
        '"labels": [], "accuracy": {}, "trained_on": "", "sha256": "", "seed": Infinity}'
    )
    with pytest.raises(GraphError, match="not a model card"):
        read_card(card, "the card")


def model(
    nodes: list[onnx.NodeProto], constants: dict[str, list[int]], opsets: list[str], functions: list[object]
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(value, dtype=np.int64), name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid(domain, 17 if not domain else 1) for domain in opsets]
    return bytes(helper.make_model(graph, opset_imports=imports, ir_version=9, functions=functions).SerializeToString())


def test_a_model_that_made_onnx_end_the_process() -> None:
    """A slice of a side that padding made negative, behind a node that is not known: a C++ assertion in shape inference."""
    nodes = [
        helper.make_node("Erf", ["x"], ["e"]),
        helper.make_node("Pad", ["e", "pads"], ["p"], mode="constant"),
        helper.make_node("Slice", ["p", "starts", "ends", "axes"], ["y"]),
    ]
    constants = {"pads": [0, 0, 1, -(2**40), 0, 0, 1, 1], "starts": [1, 0], "ends": [5, 9], "axes": [2, 3]}
    with pytest.raises((GraphError, UnsupportedModelError)):
        load_onnx(model(nodes, constants, [""], []))


def test_a_model_that_calls_into_a_domain_without_opset() -> None:
    nodes = [helper.make_node("Twice", ["x"], ["y"], domain="lost")]
    with pytest.raises(UnsupportedModelError, match="Twice"):
        load_onnx(model(nodes, {}, [""], []))


def test_a_model_with_a_name_that_is_not_text() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"], zlpha=1)]
    with pytest.raises(GraphError, match="not UTF-8"):
        load_onnx(model(nodes, {}, [""], []).replace(b"zlpha", b"\xff\xfe\xfd\xfc\xfb"))


def test_a_bundle_with_an_ed25519_key_of_the_wrong_length(tmp_path: Path) -> None:
    """OpenSSL calls it an internal error."""
    der = Ed25519PrivateKey.generate().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    short = bytearray(der[:-1])
    for place in (1, 13, 15):
        short[place] -= 1
    text = b"-----BEGIN PRIVATE KEY-----\n" + base64.b64encode(bytes(short)) + b"\n-----END PRIVATE KEY-----\n"
    certificate = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    path = private(tmp_path / "party-0.pem", text + 2 * certificate)
    with pytest.raises(KeyMaterialError, match="not an identity"):
        Bundle.load(path)


def test_an_authority_whose_name_is_not_text(tmp_path: Path) -> None:
    """Names are parsed on demand: it must not be accepted first and fail later."""
    der = make_authority(new_key("ed25519"), 30).public_bytes(Encoding.DER)
    name = b"secureimg authority"
    assert der.count(name) == 2  # issuer and subject
    text = base64.b64encode(der.replace(name, b"\xff" * len(name)))
    path = tmp_path / "ca.pem"
    path.write_bytes(b"-----BEGIN CERTIFICATE-----\n" + text + b"\n-----END CERTIFICATE-----\n")
    with pytest.raises(KeyMaterialError, match="no authority's certificate"):
        load_authorities(path)


def test_a_count_of_releases_that_is_no_number(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "releases.sqlite") as base:
        base.execute("CREATE TABLE releases (owner TEXT PRIMARY KEY, images INTEGER NOT NULL)")
        base.execute("INSERT INTO releases VALUES ('owner', 'many')")
    base.close()
    gate = OwnerGate(OwnerLimits(releases=5), tmp_path)
    with pytest.raises(KeyMaterialError, match="no answer leaves uncounted"):
        gate.release("owner", 1)
    gate.close()
