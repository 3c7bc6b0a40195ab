"""Correlations made ahead: party 0 orders them, both parties keep them on disk, a session takes one that both have."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocols.private_files import write_private
from protocols.sharing.dealer import Supply
from protocols.sharing.link import Link
from secureimg.errors import (
    BlobError,
    BudgetError,
    KeyMaterialError,
    ParameterError,
    RemoteProtocolError,
    SecureImgError,
)
from secureimg.sharing import Correlation, CorrelationStore, Program, PublicProgram, cost_of, fresh_seed
from secureimg.sharing.streams import SEED_BYTES

__all__ = ["Keeper", "Stock", "agree", "fill_orders", "order"]

_log = logging.getLogger(__name__)

_OFFERED: Final = 16
_TOKEN: Final = 32
_PAUSE: Final = 5.0
_LOOK: Final = 60.0
_NONE: Final = "0" * _TOKEN

Bytes = NDArray[np.uint8]


class Stock:
    """A party's correlations on disk, and how the two parties agree on one.

    Parameters
    ----------
    directory : Path
        Holds `correlations/` and, at party 1, `weights.seed`: what is kept must outlive a restart together.
    party : int
    """

    def __init__(self, directory: Path, party: int) -> None:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise KeyMaterialError(f"{directory} cannot be made: {error.strerror}: name another directory") from None
        self._directory, self._party = directory, party
        self._lock = threading.Lock()
        self.store = CorrelationStore(directory / "correlations")

    def close(self) -> None:
        """Give the store up."""
        self.store.close()

    def weight_seed(self, program: Program) -> bytes:
        """Party 1's weight seed for the dealer process: the same as long as the stock and the model live.

        Another model gets another seed: under one mask, the difference of two models' weights would be open to party 0.
        """
        path = self._directory / "weights.seed"
        with self._lock:  # both connections of a link ask at once
            if not path.exists():
                part = path.with_suffix(".part")  # a crash must not leave an empty seed
                write_private(part, fresh_seed(), overwrite=True)
                part.replace(path)
        if path.stat().st_mode & 0o077:
            raise KeyMaterialError(f"{path} is readable by others: run chmod 600 on it")
        seed = path.read_bytes()
        if len(seed) != SEED_BYTES:
            raise KeyMaterialError(
                f"{path} has {len(seed)} bytes, expected {SEED_BYTES}: remove the stock and make a new one"
            )
        return program.weight_seed(seed)

    def put(self, supply: Supply, public: PublicProgram, token: str, images: int) -> None:
        """Fetch this party's part of a correlation and keep it."""
        size = cost_of(public, images).offline_bytes if self._party else 0
        seed, corrections = supply.fetch(token, images, size)
        item = Correlation(
            id=token,
            program=public.fingerprint,
            images=images,
            dealer="dealer",
            epoch=supply.epoch,
            size=size,
            created=time.time(),
        )
        self.store.put(item, seed, [corrections.data] if size else [])

    def take(self, token: str) -> tuple[bytes, Bytes]:
        """Spend a correlation, durably, and return seed and corrections."""
        with self.store.spend(token) as spent:
            corrections = np.empty(spent.item.size, dtype=np.uint8)
            spent.read(corrections.data)
            return spent.seed, corrections


def agree(
    stock: Stock | None, link: Link, party: int, public: PublicProgram, images: int, epoch: str
) -> tuple[str, bytes, Bytes] | None:
    """Spend a correlation that both parties keep: party 0 offers, party 1 picks. None if there is none.

    Returns its id, and this party's seed and corrections.

    Party 1 spends it before it names it, so that of two sessions that are offered the same one a single one gets it.
    """
    mine: list[str] = []
    if stock is not None:
        mine = [item.id for item in stock.store.available(program=public.fingerprint, images=images, epoch=epoch)]
    offered = np.zeros(_OFFERED * _TOKEN, dtype=np.uint8)
    chosen = np.zeros(_TOKEN, dtype=np.uint8)
    if party == 0:
        text = "".join(mine[:_OFFERED]).encode()
        offered[: len(text)] = np.frombuffer(text, dtype=np.uint8)
        link.send(offered)
        link.receive(chosen)
        token = chosen.tobytes().decode("ascii", "replace")
        if token == _NONE:
            return None
        if stock is None or token not in mine[:_OFFERED]:
            raise RemoteProtocolError("party 1 picked a correlation that was not offered")
        return token, *stock.take(token)
    link.receive(offered)
    names = [offered[i : i + _TOKEN].tobytes().decode("ascii", "replace") for i in range(0, offered.size, _TOKEN)]
    for name in (name for name in names if stock is not None and name in mine):
        assert stock is not None
        try:
            taken = stock.take(name)
        except (BudgetError, BlobError) as error:  # another session was faster, or the file is damaged
            _log.info("stock: %s", error)
            continue
        link.send(np.frombuffer(name.encode(), dtype=np.uint8))
        return name, *taken
    link.send(np.frombuffer(_NONE.encode(), dtype=np.uint8))
    return None


def order(stock: Stock, link: Link, supply: Supply, public: PublicProgram) -> None:
    """Party 0: have one more single-image correlation made and kept by both."""
    token = secrets.token_hex(16)
    link.send(np.frombuffer(token.encode(), dtype=np.uint8))
    kept = np.zeros(1, dtype=np.uint8)
    link.receive(kept)
    if kept[0] != 1:
        raise RemoteProtocolError("party 1 could not keep a correlation: see its log")
    stock.put(supply, public, token, 1)


def fill_orders(stock: Stock, link: Link, epoch: str, public: PublicProgram, engage: Callable[[], Supply]) -> None:
    """Party 1: keep what party 0 orders, until it leaves. What is of another model or weight mask goes: it is of no use.

    `engage` opens the connection to the dealer; it is called at the first order, if there is one.
    """
    stock.store.discard(program=public.fingerprint, epoch=epoch)
    token = np.zeros(_TOKEN, dtype=np.uint8)
    supply: Supply | None = None
    while True:
        link.receive(token)
        try:
            supply = supply or engage()
            stock.put(supply, public, token.tobytes().decode("ascii", "replace"), 1)
        except SecureImgError as error:
            _log.warning("stock: %s", error)
            link.send(np.zeros(1, dtype=np.uint8))
            return
        link.send(np.ones(1, dtype=np.uint8))


class Keeper:
    """Party 0's thread that keeps the stock between two watermarks.

    Parameters
    ----------
    low, high : int
        Single-image correlations: when fewer than `low` are left, more are made, until there are `high`.
    restock : callable
        Looks and makes what is missing; gets both.
    """

    def __init__(self, low: int, high: int, restock: Callable[[int, int], None]) -> None:
        if not 0 < low <= high:
            raise ParameterError(
                f"a stock from {low} to {high} correlations: the first number must be 1 or more, and not above the second"
            )
        self._low, self._high, self._restock = low, high, restock
        self._wake = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="stock", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Look again: one was used."""
        self._wake.set()

    def close(self) -> None:
        """Stop, after the correlation under way."""
        self._stop = True
        self._wake.set()
        self._thread.join(_PAUSE)

    def _run(self) -> None:
        low = self._high  # at the start it is filled up
        while not self._stop:
            pause = _LOOK
            try:
                self._restock(low, self._high)
                low = self._low
            except (SecureImgError, OSError) as error:
                _log.warning("stock: %s", error)
                pause = _PAUSE
            self._wake.wait(pause)
            self._wake.clear()
