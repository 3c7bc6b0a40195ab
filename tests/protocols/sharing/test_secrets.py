"""Nothing secret is ever written down, and nobody on the outside can tell one picture from another by sizes or rounds."""

from __future__ import annotations

import base64
import contextlib
import logging
import re
import secrets
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from protocols import RefusedError
from protocols.sharing import DEALINGS, Link
from protocols.sharing.talk import Talk
from secureimg import sharing
from secureimg.errors import SecureImgError


def spellings(secret: bytes) -> Iterator[str]:
    """The ways in which a text could hold some bytes: a piece of 12 is enough to give them away."""
    for start in (0, max(0, len(secret) // 2 - 6)):
        piece = secret[start : start + 12]
        yield piece.hex()
        yield repr(piece)[2:-1]
        yield ", ".join(map(str, piece))
        yield " ".join(map(str, piece))
        yield base64.b64encode(piece).decode()
        yield base64.urlsafe_b64encode(piece).decode()


def numbers(array: np.ndarray) -> Iterator[str]:
    """The ways in which a text could hold an array."""
    for text in (repr(array.reshape(-1)[:4]), str(array.reshape(-1)[:4])):
        yield text.split("[")[1].split("]")[0]


class Witness:
    """Records seeds as they are drawn, messages as they leave, and shares as they are made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.secrets: list[bytes] = []
        draw, send = secrets.token_bytes, Link.send

        def token_bytes(count: int | None = None) -> bytes:
            drawn = draw(count)
            if count == 32:
                self.secrets.append(drawn)
            return drawn

        def sending(link: Link, message: Any) -> None:
            data = bytes(message[:64])
            if len(data) >= 12 and len(set(data)) > 6 and not data.isascii():  # names of runs are no secrets
                self.secrets.append(data)
            send(link, message)

        monkeypatch.setattr(secrets, "token_bytes", token_bytes)
        monkeypatch.setattr(Link, "send", sending)

    def must_be_absent(self, *texts: str) -> None:
        words = {word for secret in self.secrets for word in spellings(secret) if len(word) >= 12}
        for text in texts:
            text = re.sub(r"\s+", " ", text)  # numpy pads its columns
            found = [word for word in words if word in text]
            assert not found, "a secret was written down"


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Witness:
    return Witness(monkeypatch)


def test_the_witness_would_notice(witness: Witness) -> None:
    """The check itself: a seed in any of the usual spellings is found."""
    seed = sharing.fresh_seed()
    for text in (
        seed.hex(),
        repr(seed),
        str(list(seed)),
        str(np.frombuffer(seed, dtype=np.uint8)[:12]),
        repr((1, seed)),
    ):
        with pytest.raises(AssertionError, match="written down"):
            witness.must_be_absent(f"log: {text} end")
    witness.must_be_absent("log: nothing")


@pytest.mark.parametrize("dealing", DEALINGS)
def test_logs_errors_and_reprs_hold_no_seed_share_or_weight(
    deployment: Any, caplog: pytest.LogCaptureFixture, witness: Witness, dealing: Any
) -> None:
    """Sessions that end well and sessions that end badly, with everything logged that can be."""
    caplog.set_level(logging.DEBUG)
    net, said = deployment.net, []
    images = net.images(2)
    with deployment.client(dealing=dealing) as client:
        said.append(repr(client.prepare(2)))
        answer = client.run(images)
        witness.secrets += [bytes(share) for share in answer.shares]
        said += [repr(answer), str(answer), repr(client), repr(vars(client))]
    with contextlib.suppress(SecureImgError), deployment.client(dealing=dealing) as client:
        client.prepare(1)
        client._talks[1].wire.sock.sendall(secrets.token_bytes(99))
        try:
            client.run(net.images(1))
        except SecureImgError as error:
            said += [repr(error), str(error)]
            raise
    with pytest.raises(RefusedError) as caught:
        deployment.client(dealing=dealing, model="another")
    said += [repr(caught.value), str(caught.value)]
    texts = [caplog.text, *said]
    witness.must_be_absent(*texts)
    weights = [part for pair in net.program.weights.values() for part in pair if part is not None]
    pixels = [images[0], answer.values]
    for text in texts:
        assert not [word for array in (*weights, *pixels) for word in numbers(array) if word in text]
    assert len(witness.secrets) > 10


def test_what_holds_secrets_does_not_show_them(deployment: Any, witness: Witness) -> None:
    """A repr ends up in tracebacks and logs: none of ours gives away what the object guards."""
    net = deployment.net
    shares = sharing.share_images(net.program.public, net.images(1))
    seed = sharing.fresh_seed()
    size = sharing.cost_of(net.program.public).offline_bytes
    corrections = np.frombuffer(secrets.token_bytes(size), dtype=np.uint8)
    witness.secrets += [bytes(shares[1]), bytes(corrections)]
    prepared = sharing.PartyOne(net.program).prepare(1, seed, corrections)
    result = sharing.Result(np.frombuffer(seed, dtype=np.uint8), 3)
    from protocols.conversation import Received
    from protocols.sharing.messages import Input

    things = [
        prepared,
        result,
        sharing.Dealer(net.program.public, seed),
        net.program,
        Received(Input(request=0, seconds=1.0), seed),
    ]
    witness.must_be_absent(*map(repr, things))


def test_sizes_and_rounds_are_the_same_for_every_picture(deployment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every message between the parties, and every one to and from the owner, is as long for black as for white or noise."""
    net = deployment.net
    pictures = [np.zeros((2, 1, 6, 6)), np.ones((2, 1, 6, 6)), net.images(2, 1), np.eye(6)[None, None].repeat(2, 0)]
    messages: list[tuple[int, str, int]] = []
    send = Link.send

    def sending(link: Link, message: Any) -> None:
        messages.append((id(link), "send", memoryview(message).nbytes))
        send(link, message)

    monkeypatch.setattr(Link, "send", sending)
    seen = []
    for dealing in DEALINGS:
        with deployment.client(dealing=dealing) as client:
            client.run(net.images(2, 9))  # the weights come with the first one
        for images in pictures:
            messages.clear()
            with deployment.client(dealing=dealing) as client:
                answer = client.run(images)
                wires = [(talk.wire.sent, talk.wire.received) for talk in client._talks]
            links = sorted(dict.fromkeys(link for link, _, _ in messages))
            traffic = sorted([size for link, _, size in messages if link == each] for each in links)
            seen.append((dealing, wires, traffic, answer.rounds, answer.sent, answer.up, answer.down))
    for dealing in DEALINGS:
        views = [view for view in seen if view[0] == dealing]
        assert len(views) == len(pictures)
        assert all(view == views[0] for view in views)
        assert len(views[0][2]) == 2
        assert views[0][3] == sharing.cost_of(net.program.public, 2).rounds


def test_rounds_and_bytes_are_those_of_the_cost_report(deployment: Any) -> None:
    """What the report says before anything runs is what the link carries, headers and agreement aside."""
    net = deployment.net
    for count in (1, 4):
        cost = sharing.cost_of(net.program.public, count)
        with deployment.client() as client:
            answer = client.run(net.images(count))
        assert answer.rounds == cost.rounds
        headers = 32 * (2 * cost.rounds + 2) + 2 * 256
        assert cost.online_bytes < sum(answer.sent) <= cost.online_bytes + headers
        assert isinstance(client._talks[0], Talk)
