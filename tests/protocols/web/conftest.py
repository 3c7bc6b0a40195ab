"""Two real parties and a dealer with their web interfaces, all on TLS, and owners' tokens for them."""

from __future__ import annotations

import base64
import datetime
import secrets
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from protocols.pki import create_bundles
from protocols.sharing import DealerServer, PartyLimits, PartyOneServer, PartyZeroServer
from protocols.sharing.desk import PartyDesk
from protocols.web import TokenFile, party_application, web_server
from protocols.web.tokens import ROLES, add_entry, make_entry, new_secret, shown_to
from secureimg import sharing
from secureimg.graph import load_model

HOST = "127.0.0.1"


def free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass(frozen=True)
class Pair:
    """The web interfaces of two parties that compute together.

    `secret` is an owner's token, `public` the program.
    """

    urls: tuple[str, str]
    authority: ssl.SSLContext
    secret: str
    program: sharing.Program
    parties: tuple[Any, Any]
    files: tuple[Path, Path]
    directory: Path

    @property
    def public(self) -> sharing.PublicProgram:
        return self.program.public

    def bearer(self, number: int, secret: str | None = None) -> dict[str, str]:
        role = "party1" if number else "party0"
        return {"Authorization": f"Bearer {shown_to(role, secret or self.secret)}"}

    def client(self, number: int, **options: Any) -> httpx.Client:
        headers = options.pop("headers", self.bearer(number))
        return httpx.Client(base_url=self.urls[number], verify=self.authority, headers=headers, timeout=60, **options)

    def put(self, number: int, session: str, share: bytes, **query: Any) -> httpx.Response:
        with self.client(number) as client:
            asked = {"program": self.public.fingerprint, **query}
            return client.put(f"/v1/answers/{session}", params=asked, content=share)

    def shares(self, images: np.ndarray) -> tuple[bytes, bytes]:
        seed, second = sharing.share_images(self.public, images)
        return sharing.expand_share(self.public, seed, len(images)).tobytes(), second.tobytes()

    def ask(self, session: str, shares: tuple[bytes, bytes], **query: Any) -> list[httpx.Response]:
        """Ask both parties at once."""
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda n: self.put(n, session, shares[n], **query), (0, 1)))

    def scores(self, answers: list[httpx.Response], images: int = 1) -> np.ndarray:
        parts = [np.frombuffer(base64.b64decode(answer.json()["share"]), dtype=np.uint8) for answer in answers]
        return sharing.join_result(self.public, parts[0], parts[1], images)


def start_pair(directory: Path, program: sharing.Program, stack: ExitStack) -> Pair:
    """Start dealer, parties and their web interfaces in threads of this process; `stack` ends them."""
    bundles = create_bundles(directory / "pki", ("party-0", "party-1", "dealer"))
    files = directory / "tokens-party0.toml", directory / "tokens-party1.toml"
    secret, expires = new_secret(), datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    for number, role in enumerate(ROLES[:2]):
        add_entry(files[number], make_entry(role, "owner", secret, expires))

    def serve(listener: Any) -> None:
        thread = threading.Thread(target=listener.run, daemon=True)
        thread.start()
        stack.callback(thread.join, 20)

    dealer = DealerServer(bundles["dealer"])
    serve(dealer.listener)
    stack.callback(dealer.close)
    common: dict[str, Any] = {
        "client_aided": False,
        "dealer": dealer.listener.address,
        "limits": PartyLimits(patience=5.0),
    }
    one = PartyOneServer(bundles["party-1"], program, **common)
    serve(one.listener)
    stack.callback(one.close)
    zero = PartyZeroServer(bundles["party-0"], one.listener.address, **common)
    serve(zero.listener)
    stack.callback(zero.close)
    ports = free_port(), free_port()
    urls = f"https://{HOST}:{ports[0]}", f"https://{HOST}:{ports[1]}"
    servers = []
    for number, party in enumerate((zero, one)):
        app = party_application(
            PartyDesk(party), TokenFile(files[number]), other=urls[1 - number], number=number, images=4
        )
        servers.append(web_server(app, bundles[f"party-{number}"], host=HOST, port=ports[number]).start())

    def stop() -> None:  # both at once: a browser keeps each waiting
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda server: server.stop(), servers))

    stack.callback(stop)
    authority = ssl.create_default_context(cafile=directory / "pki" / "ca.pem")
    return Pair(urls, authority, secret, program, (zero, one), files, directory)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two parties with the shipped model of digits."""
    program = sharing.compile(load_model("mnist-cnn"))
    sharing.warm_up()
    with ExitStack() as stack:
        yield start_pair(tmp_path_factory.mktemp("web"), program, stack)


@pytest.fixture
def session() -> str:
    return secrets.token_hex(16)
