"""A real server process over real TLS: who gets in, what is refused, and that it serves on after everything."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from protocols import Code, OwnerClient, OwnerConversation, Received, RefusedError
from protocols.frames import VERSION
from protocols.messages import Bye, Evaluate, Hangup, Hello, Offer, RegisterKeys, encode_frame
from protocols.pki import Bundle
from protocols.tls import IdentityContext, bundle_context, dial, peer_fingerprint
from secureimg.ckks import OwnerKeys
from secureimg.errors import LocalProtocolError, RemoteProtocolError
from secureimg.graph import load_onnx, run_plain

from .pairs import ANY_KEY

KEY = "ab" * 16


def test_an_owner_gets_the_answer_of_the_plain_model(
    server: Any, owner_keys: OwnerKeys, pictures: np.ndarray, tiny_model: Path
) -> None:
    with server.client() as client:
        assert client.register(owner_keys) == 0, "keys that are known are not sent again"
        outputs = client.infer(pictures)
        bound = client.program.error_bound
        with pytest.raises(LocalProtocolError, match="shape"):
            client.infer(pictures[:, :, 1:])
    assert np.abs(outputs - run_plain(load_onnx(tiny_model), pictures)).max() <= bound


def test_two_owners_have_keys_of_their_own(server: Any, owner_keys: OwnerKeys, pictures: np.ndarray) -> None:
    with server.client("other") as client:
        client._keys = owner_keys  # the key id of somebody else, not registered by this owner
        asked, _ = client._ask(client._talk.ask_keys(owner_keys.key_id))
        assert asked.known is False
        with pytest.raises(RefusedError, match="no evaluation keys") as caught:
            client._ask(client._talk.evaluate(owner_keys.key_id, 1, owner_keys.encrypt(pictures[:1])))
        assert caught.value.code is Code.UNKNOWN_KEY
        keys = OwnerKeys.generate(client.program)
        assert client.register(keys) > 0
        assert client.infer(pictures[:1]).shape == (1, 10)
    with server.client() as client:
        assert client.register(owner_keys) == 0


def test_a_full_queue_refuses_at_once(server: Any, owner_keys: OwnerKeys, pictures: np.ndarray) -> None:
    blob, refused, reasons = owner_keys.encrypt(pictures[:1]), threading.Event(), []

    def ask() -> None:
        with server.client(patience=0.0) as client:
            client.register(owner_keys)
            for _ in range(100):
                if refused.is_set():
                    return
                try:
                    client.evaluate(blob)
                except RefusedError as error:
                    reasons.append(error)
                    refused.set()

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert reasons
    assert all(reason.code is Code.BUSY and reason.retry_after is not None for reason in reasons)
    assert all("queue of 0 full" in str(reason) for reason in reasons)


def test_a_busy_server_is_asked_again(server: Any, owner_keys: OwnerKeys, pictures: np.ndarray) -> None:
    answers: list[np.ndarray] = []

    def ask() -> None:
        with server.client(patience=60.0) as client:
            client.register(owner_keys)
            answers.append(client.infer(pictures))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 2


def test_another_model_than_asked_for_is_refused(server: Any) -> None:
    with pytest.raises(RefusedError, match="unknown-model"):
        server.client(model="resnet-50")
    with server.client() as client:
        fingerprint = client.program.fingerprint
    server.client(model=fingerprint).close()


def test_without_a_certificate_nothing_is_said(server: Any, anonymous: ssl.SSLContext) -> None:
    heard = b""
    with contextlib.suppress(OSError), socket.create_connection((server.host, server.port), 10) as raw:
        secured = anonymous.wrap_socket(raw)
        secured.sendall(HELLO)
        heard = secured.recv(1)
        secured.close()
    assert heard == b""
    assert server.alive()


def own_context(server: Any) -> IdentityContext:
    return bundle_context(server.bundle("owner"), ssl.PROTOCOL_TLS_CLIENT)


def test_tls_1_2_is_refused(server: Any) -> None:
    context = own_context(server)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(RemoteProtocolError, match="did not prove"):
        dial(server.host, server.port, context, 10, "server")


def test_strangers_are_refused_on_both_sides(server: Any, stranger: Path) -> None:
    with pytest.raises(RemoteProtocolError, match="did not prove to be the expected server"):
        OwnerClient(server.host, server.port, stranger, timeout=20)
    context = bundle_context(stranger, ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # even an owner that trusts the server blindly is not let in
    secured = context.wrap_socket(socket.create_connection((server.host, server.port), 10))
    with secured, contextlib.suppress(ssl.SSLError, ConnectionError):
        secured.sendall(encode_frame(Hello(key=ANY_KEY)))
        assert secured.recv(1) == b""
    assert server.alive()


def test_an_owner_cannot_pose_as_the_server(server: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.bundle("other"))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def pose() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                context.wrap_socket(connection, server_side=True).close()

        thread = threading.Thread(target=pose)
        thread.start()
        with pytest.raises(RemoteProtocolError, match="did not prove"):
            OwnerClient("127.0.0.1", listener.getsockname()[1], server.bundle("owner"), timeout=10)
        thread.join(10)


def test_nobody_there_is_one_clear_error(server: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(RemoteProtocolError, match="is the server running"):
        OwnerClient("127.0.0.1", port, server.bundle("owner"), timeout=5)


def test_bytes_that_are_not_tls_do_no_harm(server: Any) -> None:
    for data in (b"", b"GET / HTTP/1.1\r\n\r\n", bytes(300), b"\x16\x03\x01\xff\xff" + bytes(50)):
        with socket.create_connection((server.host, server.port), 10) as raw:
            raw.sendall(data)
    server.client().close()


# ---------------------------------------------------------------------------------------- a hundred malformed things

HELLO = encode_frame(Hello(key=ANY_KEY))
BYE = encode_frame(Bye())
HEADER = struct.Struct(">4sBBHQ16x")


def head(number: int, value: object, body: bytes = b"") -> bytes:
    raw = value if isinstance(value, bytes) else msgspec.msgpack.encode(value)
    return HEADER.pack(b"SIMG", VERSION, number, len(raw), len(body)) + raw + body


def malformed_streams() -> Iterator[tuple[str, bytes]]:
    """Byte streams that break the protocol; each ends its connection with a Hangup."""
    for name, magic in (
        ("http", b"GET "),
        ("zeros", bytes(4)),
        ("case", b"simg"),
        ("swapped", b"GMIS"),
        ("tls", b"\x16\x03\x01\x02"),
    ):
        yield f"magic {name}", magic + HELLO[4:]
    for version in (0, 1, 3, 127, 255):
        yield f"version {version}", HELLO[:4] + bytes([version]) + HELLO[5:]
    for number in (0, 12, 13, 64, 128, 255):
        yield f"type {number}", HELLO[:5] + bytes([number]) + HELLO[6:]
    for number in (2, 4, 6, 8, 9, 10):
        yield f"a message of the server's, {number}", HEADER.pack(b"SIMG", VERSION, number, 1, 0) + b"\x80"
    for number in (3, 5, 7, 11):
        yield f"before the greeting, {number}", HEADER.pack(b"SIMG", VERSION, number, 1, 0) + b"\x80"
    for size in (4097, 65535):
        yield f"head of {size}", HEADER.pack(b"SIMG", VERSION, 1, size, 0)
    for size in (1, 2**20, 2**31, 2**32, 2**40, 2**63, 2**64 - 1):
        yield f"hello with a body of {size}", HEADER.pack(b"SIMG", VERSION, 1, 10, size)
    contents: list[Any] = [b"", b"\xc1", b"\xff" * 9, b"{}", None, True, 7, "text", [], [1], {"type": 2}, {"type": "1"}]
    contents += [
        {"type": 1},
        {"type": 1, "key": b""},
        {"type": 1, "key": bytes(31)},
        {"type": 1, "key": ANY_KEY, "model": 3},
        {"type": 1, "key": ANY_KEY, "extra": 0},
        {"type": 1, "key": ANY_KEY, "model": "x" * 201},
        {"type": 1, "key": ANY_KEY, "model": ""},
    ]
    contents += [
        {"type": 1, "key": ANY_KEY, "software": "x" * 2001},
        b"\x81\xa4type",
        b"\x91" * 900,
        msgspec.msgpack.encode({"type": 1, "key": ANY_KEY}) + b"\0",
    ]
    contents += [
        b"\x82\xa4type\x01\xa5model\xa2\xff\xfe",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ]
    for index, content in enumerate(contents):
        yield f"hello content {index}", head(1, content)
    yield "two greetings", HELLO + HELLO
    for number, size in ((5, 2**40), (5, 2**64 - 1), (7, 2**33), (7, 2**64 - 1), (3, 1), (11, 1)):
        yield f"body of type {number} with {size}", HELLO + HEADER.pack(b"SIMG", VERSION, number, 20, size)
    good = {"type": 7, "request_id": KEY, "key_id": KEY, "count": 1, "seconds": 9.0}
    wrong: list[dict[str, object]] = [
        {"request_id": 1}, {"request_id": "0"}, {"request_id": KEY[1:]}, {"request_id": None}, {"seconds": -1.0}, {"key_id": ""}, {"key_id": "XY" * 16},  # noqa: E501
        {"key_id": "ab" * 65}, {"key_id": 5}, {"key_id": KEY + "\n"}, {"key_id": "../../etc/passwd"}, {"count": 0}, {"count": -1},  # noqa: E501
        {"count": 2**21}, {"count": 1.5}, {"count": "1"}, {"extra": 1},
    ]  # fmt: skip
    for index, change in enumerate(wrong):
        yield f"evaluate with wrong field {index}", HELLO + head(7, good | change)
    for missing in ("request_id", "key_id", "count", "seconds"):
        yield f"evaluate without {missing}", HELLO + head(7, {k: v for k, v in good.items() if k != missing})
    yield "ask for no key", HELLO + head(3, {"type": 3})
    yield "register without an id", HELLO + head(5, {"type": 5})
    yield "garbage after the greeting", HELLO + bytes(range(200, 256)) * 10


STREAMS = dict(malformed_streams())


def tagged(data: bytes, owner: OwnerConversation) -> bytes:
    """The same frame with the tag that its place in the session wants, so that what is behind the tag is judged."""
    if len(data) < HEADER.size or data[:4] != b"SIMG":
        return data
    end = HEADER.size + int.from_bytes(data[6:8], "big")
    return data[:16] + owner.taggers[0].tag(data[:16] + data[HEADER.size : end]) + data[HEADER.size :]


def converse(server: Any, data: bytes) -> list[object]:
    """Send raw bytes over TLS, a greeting by itself first; return the messages that come back until the server ends."""
    messages: list[object] = []
    with dial(server.host, server.port, own_context(server), 20, "server") as secured:
        own = Bundle.load(server.bundle("owner")).fingerprint
        owner = OwnerConversation(owner=own, server=peer_fingerprint(secured))
        (hello,) = owner.hello()

        def listen() -> bool:
            piece = secured.recv(65536)
            messages.extend(e.message for e in owner.receive_data(piece) if isinstance(e, Received))
            return bool(piece)

        if data.startswith(HELLO):
            secured.sendall(hello)
            while not messages:
                assert listen()
            data = tagged(data[len(HELLO) :], owner)
            if data[5:6] == b"\x07":
                owner.evaluate(KEY, 1, b"")  # the answer to an evaluation is either a refusal or a hangup
        secured.sendall(data)
        while listen():
            continue
    return messages


@pytest.mark.parametrize("name", STREAMS)
def test_a_malformed_stream_ends_in_one_hangup_that_says_why(server: Any, name: str) -> None:
    messages = converse(server, STREAMS[name])
    last = messages[-1]
    assert isinstance(last, Hangup)
    assert last.code is Code.MALFORMED
    assert last.message
    assert last.remedy
    assert all(isinstance(message, Offer) for message in messages[:-1])
    assert server.alive()


def test_there_are_many_kinds_of_malformed_streams() -> None:
    assert len(STREAMS) >= 80


def damaged_blobs(blob: bytes) -> Iterator[tuple[str, bytes]]:
    """Blobs that travel in a sound frame and are themselves not sound."""
    yield "empty", b""
    yield "one byte", blob[:1]
    for place in (0, 4, 6, 10, 40, 50, 60, 70, len(blob) // 2, len(blob) - 1):
        yield f"flipped at {place}", blob[:place] + bytes([blob[place] ^ 1]) + blob[place + 1 :]
    for length in (20, 95, 96, 97, len(blob) // 2, len(blob) - 1):
        yield f"cut at {length}", blob[:length]
    yield "one byte too many", blob + b"\0"
    yield "zeros", bytes(len(blob))
    yield "twice", blob[: len(blob) // 2] * 2


def test_damaged_ciphertexts_are_refused_one_by_one(server: Any, owner_keys: OwnerKeys, pictures: np.ndarray) -> None:
    blob = owner_keys.encrypt(pictures[:1])
    foreign = OwnerKeys.generate(owner_keys.public).encrypt(pictures[:1])
    with server.client() as client:
        client.register(owner_keys)
        for name, bad in [*damaged_blobs(blob), ("foreign key", foreign), ("keys", client.program.to_bytes())]:
            with pytest.raises(RefusedError) as caught:
                client.evaluate(bad)
            assert caught.value.code is Code.BAD_CIPHERTEXT, name
        assert client.evaluate(blob).blob, "the same connection serves on"


def test_damaged_evaluation_keys_are_refused_one_by_one(server: Any, owner_keys: OwnerKeys) -> None:
    blob = OwnerKeys.generate(owner_keys.public).evaluation_keys().to_bytes()
    with server.client() as client:
        for name, bad in damaged_blobs(blob):
            if len(bad) > client.offer.max_keys_bytes:
                continue
            with pytest.raises(RefusedError) as caught:
                client._ask(client._talk.register_keys(KEY, bad))
            assert caught.value.code is Code.BAD_KEYS, name
        with pytest.raises(RefusedError, match="announced"):
            client._ask(client._talk.register_keys(KEY, blob))


def test_an_owner_that_leaves_in_the_middle_does_no_harm(
    server: Any, owner_keys: OwnerKeys, pictures: np.ndarray
) -> None:
    blob = owner_keys.encrypt(pictures[:1])
    evaluate = Evaluate(request_id=KEY, key_id=owner_keys.key_id, count=1, seconds=9.0)
    whole = HELLO + encode_frame(evaluate, len(blob)) + blob
    for data in (HELLO[:9], HELLO[:-1], HELLO, HELLO + encode_frame(RegisterKeys(key_id=KEY), 1000), whole[:-1], whole):
        with dial(server.host, server.port, own_context(server), 10, "server") as secured:
            secured.sendall(data)
    with server.client() as client:
        client.register(owner_keys)
        assert client.evaluate(blob).blob


def test_a_goodbye_ends_it(server: Any) -> None:
    assert [type(m) for m in converse(server, HELLO + BYE)] == [Offer]


def test_time_limits_and_connection_limits_end_in_a_hangup(command: Any, tiny_model: Path, tmp_path: Path) -> None:
    server = command.start_server(tiny_model, tmp_path / "tls", limits__idle=0.5, limits__connections=2)
    try:
        assert converse(server, HELLO)[-1].code is Code.TIMEOUT
        with server.client(), server.client(), pytest.raises(RefusedError, match="too many connections"):
            server.client()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(RefusedError):
                server.client().close()
                break
        else:
            pytest.fail("the server does not take new owners after the old ones left")
    finally:
        command.stop_server(server)


def test_asking_for_keys_says_how_much_room_there_is(server: Any) -> None:
    with server.client() as client:
        state, _ = client._ask(client._talk.ask_keys(KEY))
    assert state.room >= client.offer.max_keys_bytes > 0
