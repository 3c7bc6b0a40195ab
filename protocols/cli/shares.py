"""A run on shares with every role a process of its own on this machine; and what it assumes, in words."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.cli.console import Steps
from protocols.cli.inputs import load_inputs
from protocols.cli.options import DealerKind, LoadedModel, ModelOptions, ShareOptions, parse_address
from protocols.cli.remote import apply_tail, labels_of
from protocols.cli.server_process import LocalProcesses, address_of, spell
from protocols.deployment.settings import Role
from protocols.memory_use import peak_memory, peak_of
from protocols.pki import create_bundles, owner_bundle
from protocols.sharing import Answer, Offline, SharesClient
from secureimg.errors import CompileError
from secureimg.graph import run_plain
from secureimg.sharing import PublicProgram, warm_up

__all__ = [
    "TRUST",
    "Inferred",
    "ShareProcesses",
    "ShareRun",
    "infer_on_shares",
    "plain_answer",
    "require_dealer",
    "run_on_shares",
]

TRUST = {
    DealerKind.CLIENT_AIDED: (
        "Party 0 and party 1 must not collude: together they see the image and every value. The owner deals for its own "
        "image; owner and party 0 together could work out the weights. Alone, nobody learns more than shapes, timing and "
        "what is revealed. All are assumed to follow the protocol."
    ),
    DealerKind.DEALER: (
        "Party 0 and party 1 must not collude: together they see the image and every value. The dealer must not collude "
        "with either: with one of them it sees the image, with party 0 also the weights. Alone, nobody learns more than "
        "shapes, timing and what is revealed. All are assumed to follow the protocol."
    ),
}
"""What each choice of dealer assumes."""


def require_dealer(dealer: DealerKind | None) -> DealerKind:
    """Return the choice, or raise: nobody deals silently."""
    if dealer is None:
        raise CompileError(
            "on shares somebody must make correlated randomness: add --dealer client-aided (the owner does, for its own "
            "image) or --dealer dealer (a third process does, which must not collude with either party)"
        )
    return dealer


class ShareProcesses(LocalProcesses):
    """Party 0, party 1 and, if wanted, a dealer as processes on this machine, with identities that live as long.

    Parameters
    ----------
    model : ModelOptions
    options : ShareOptions
    dealer : DealerKind
    route : callable, optional
        Called with the address of a process for each link to it; returns the address that is dialled instead, for instance a
        relay's.
    """

    def __init__(
        self,
        model: ModelOptions,
        options: ShareOptions,
        dealer: DealerKind,
        *,
        route: Callable[[tuple[str, int]], tuple[str, int]] | None = None,
    ) -> None:
        super().__init__()
        self._model, self._options, self.dealer = model, options, dealer
        self._route = route
        self.addresses: dict[str, tuple[str, int]] = {}
        self.compile_seconds = 0.0
        self.identity = Path()

    def _start(self, home: Path) -> None:
        bundles = create_bundles(home / "tls", days=1)
        self.identity = bundles["owner"]
        if self.dealer is DealerKind.DEALER:
            self._launch("dealer", "dealer", {"identity": bundles["dealer"]}, home)
        model = {**self._model.settings(), **self._options.settings()}
        given = {"identity": bundles["party-1"], **self._dealing(), **model}
        self.compile_seconds = float(self._launch("party 1", "party1", given, home)["seconds"]["compile"])
        given = {"identity": bundles["party-0"], **self._dealing(), "peers.party1": spell(self._dialled("party 1"))}
        self._launch("party 0", "party0", given | (model if self._options.public_weights else {}), home)

    def _dealing(self) -> dict[str, Any]:
        if self.dealer is DealerKind.DEALER:
            return {"peers.dealer": spell(self._dialled("dealer"))}
        return {"dealing.client_aided": True}

    def _dialled(self, role: str) -> tuple[str, int]:
        """Return where one other process reaches a role."""
        address = self.addresses[role]
        return address if self._route is None else self._route(address)

    def _launch(self, name: str, role: Role, given: Mapping[str, Any], home: Path) -> dict[str, Any]:
        ready = super()._launch(name, role, given, home)
        self.addresses[name] = address_of(ready)
        return ready

    def client(self, timeout: float = 900.0) -> SharesClient:
        """Return an owner's client that is connected to both parties."""
        return SharesClient(self._dialled("party 0"), self._dialled("party 1"), self.identity,
                            dealing=self.dealer.value, timeout=timeout)  # fmt: skip


@dataclass(eq=False)
class ShareRun:
    """What a run on shares gave and took. Seconds and bytes are totals over all images."""

    program: PublicProgram
    values: NDArray[np.float64]
    outputs: NDArray[np.float64]
    labels: list[int]
    seconds: dict[str, float]
    bytes: dict[str, dict[str, int]]
    rounds: int
    peak_rss: dict[str, int]
    shares: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    runs: list[float] = field(default_factory=list)


def run_on_shares(
    model: ModelOptions,
    options: ShareOptions,
    dealer: DealerKind,
    values: NDArray[np.float64],
    steps: Steps,
    batch: int,
) -> ShareRun:
    """Run a model on shares of images, with owner, parties and dealer as processes on this machine.

    Parameters
    ----------
    model, options, dealer
        What to run, and who deals.
    values : (N, *input_shape) float64
    steps : Steps
        Records the steps.
    batch : int
        Images in one run: rounds are shared by them.
    """
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        with steps.step(
            "party 0, party 1" + (", dealer" if dealer is DealerKind.DEALER else ""), "start, load, compile"
        ):
            # this process deals and splits: its kernels are loaded while the parties start
            warming = threading.Thread(target=warm_up, daemon=True)
            warming.start()
            processes = stack.enter_context(ShareProcesses(model, options, dealer))
            warming.join()
        with steps.step("owner ⇄ parties", "open a session; masked weights to party 0") as opening:
            client = stack.enter_context(processes.client())
        parts = [values[i : i + batch] for i in range(0, len(values), batch)]
        prepared, answers = _run(client, parts, steps, processes.dealer)
        opening.bytes = sum(item.weights for item in prepared)
        peaks = {
            "party 0": answers[-1].peak_rss[0],
            "party 1": answers[-1].peak_rss[1],
            "owner": peak_memory(children=False),
        }
        if "dealer" in processes.pids:
            peaks["dealer"] = peak_of(processes.pids["dealer"])
        public = client.program
    revealed = np.concatenate([answer.values for answer in answers])
    outputs, labels = finish_revealed(public, revealed)
    dealt = sum(item.dealt for item in prepared)
    return ShareRun(
        program=public, values=revealed, outputs=outputs, labels=labels,
        seconds={
            "compile": processes.compile_seconds,
            "setup": opening.seconds,
            "offline": sum(item.seconds for item in prepared),
            "online": sum(answer.seconds for answer in answers),
            "total": time.perf_counter() - start,
        },
        bytes={
            "offline": {
                "dealer to parties": dealt,
                "party 1 to party 0": sum(item.weights for item in prepared),
            },
            "online": {
                "owner to parties": sum(answer.up for answer in answers),
                "party 0 to party 1": sum(answer.sent[0] for answer in answers),
                "party 1 to party 0": sum(answer.sent[1] for answer in answers),
                "parties to owner": sum(answer.down for answer in answers),
            },
        },
        rounds=answers[0].rounds, peak_rss=peaks, shares=answers[0].shares,
        runs=[answer.seconds for answer in answers],
    )  # fmt: skip


def _run(
    client: SharesClient, parts: list[NDArray[np.float64]], steps: Steps, dealer: DealerKind
) -> tuple[list[Offline], list[Answer]]:
    prepared, answers = [], []
    who = "owner" if dealer is DealerKind.CLIENT_AIDED else "dealer"
    with steps.step(f"{who} → parties", "offline: correlations, no image needed") as offline:
        for part in parts:  # offline and online take turns; each counts for its own step
            prepared.append(client.prepare(len(part)))
            answers.append(client.run(part))
        offline.seconds = sum(item.seconds for item in prepared)
        offline.bytes = sum(item.dealt for item in prepared)
    with steps.step(
        "party 0 ⇄ party 1", f"online: {answers[0].rounds} rounds; reveal {client.program.reveal}"
    ) as online:
        online.seconds = sum(answer.seconds for answer in answers)
        online.bytes = sum(sum(answer.sent) for answer in answers)
    return prepared, answers


@dataclass(frozen=True, eq=False)
class Inferred:
    """Answers from other machines, and what they took."""

    names: tuple[str, ...]
    outputs: NDArray[np.float64]
    labels: list[int]
    label_names: tuple[str, ...] | None
    traffic: dict[str, int]


def infer_on_shares(
    inputs: list[Path], parties: tuple[str, str], identity: Path, dealer: DealerKind, model: str | None
) -> Inferred:
    """Have images evaluated by two parties on machines of their own."""
    addresses = [parse_address(text, "--parties") for text in parties]
    with SharesClient(addresses[0], addresses[1], owner_bundle(identity), dealing=dealer.value, model=model) as client:
        public = client.program
        given = load_inputs(inputs, public.input_shape, client.preparation)
        offline = client.prepare(len(given.values))
        answer = client.run(given.values)
    outputs, labels = finish_revealed(public, answer.values)
    traffic = {"correlations": offline.dealt, "sent": answer.up, "received": answer.down}
    return Inferred(given.names, outputs, labels, public.labels, traffic)


def finish_revealed(public: PublicProgram, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[int]]:
    """What the owner makes of revealed values: outputs after its own ops, and labels."""
    if public.reveal == "scores":
        return apply_tail(values, public.tail), labels_of(values)
    return values, [int(row[0]) for row in values]


def plain_answer(model: LoadedModel, public: PublicProgram, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the program would reveal in the clear."""
    body, _ = model.graph.body_and_tail()
    plain = run_plain(body, values)
    if public.reveal == "scores":
        return plain
    flat = plain.reshape(len(plain), -1)
    if flat.shape[1] == 1:
        return np.asarray(flat > 0, dtype=np.float64)
    return np.argsort(-flat, axis=1, kind="stable")[:, : public.top].astype(np.float64)
