"""Correlations made ahead of use: one party's durable store of them, on one machine.

A correlation that serves twice opens the difference of two masked images, so the store is built around one promise: an
id is spent at most once, ever, also when the process is killed at any moment. Spending renames `<id>.ready` to
`<id>.spent` and waits for the directory to reach the disk before the first secret byte is handed out. Afterwards the
file is cut to an empty tombstone, which stays, so that the id cannot come back.

The directory (0700) also holds `store.key` (32 random bytes, 0600) and `store.lock`, locked while a store is open. A file
is a header (magic, version, length, `Correlation`, salt), the sealed seed, and the corrections in sealed chunks of 1 MiB:
AES-256-GCM under a key of the file's own, the nonce a counter, header, place and last-flag bound to every chunk.

Nothing here can notice that a whole directory was set back (a backup, a machine's snapshot): never restore one.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import secrets
import stat
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from io import BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from secureimg.errors import BlobError, BudgetError, KeyMaterialError, LocalProtocolError
from secureimg.sharing.sealed import CHUNK, KEY_BYTES, Correlation, Header, Sealing, decode_header, read_sealing
from secureimg.sharing.streams import SEED_BYTES

__all__ = ["Buffer", "Correlation", "CorrelationStore", "Spent"]

Buffer: TypeAlias = bytes | bytearray | memoryview | NDArray[np.generic]

_log = logging.getLogger(__name__)
_DISK_ERRORS: Final = frozenset({errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EROFS})
_NAME: Final = re.compile(r"([0-9a-f]{32})\.(part|ready|spent)\Z")
_ID: Final = re.compile(r"[0-9a-f]{32}\Z")


def _bytes_of(buffer: Buffer) -> memoryview:
    view = memoryview(cast("memoryview", buffer))
    return view.cast("B") if view.nbytes else memoryview(b"")  # an empty array cannot be cast


class Spent:
    """A correlation taken out of the store: its secrets, until the `with` block ends. Made by `CorrelationStore.spend`.

    Not for several threads at a time.
    """

    def __init__(self, store: CorrelationStore, descriptor: int, sealing: Sealing, seed: bytes) -> None:
        self._store, self._descriptor, self._sealing = store, descriptor, sealing
        self._seed, self._piece, self._index, self._left = seed, memoryview(b""), 0, sealing.item.size

    @property
    def item(self) -> Correlation:
        """What is public of it."""
        return self._sealing.item

    @property
    def seed(self) -> bytes:
        """The party's 32 secret bytes."""
        self._check_open()
        return self._seed

    def read(self, into: NDArray[np.uint8] | memoryview | bytearray) -> None:
        """Fill a buffer with the next bytes of the corrections. Cost: one decryption, one copy, 1 MiB of memory.

        Parameters
        ----------
        into : array or memoryview
            Any contiguous writable buffer; it is filled whole.

        Raises
        ------
        BlobError
            If fewer bytes are left, with nothing written; or if the file is damaged: what was written is then only
            bytes that were authenticated, and the correlation is closed.
        """
        self._check_open()
        target, done = _bytes_of(into), 0
        if len(target) > self._left:
            raise BlobError(
                f"correlation {self.item.id} has {self._left} of {self.item.size} bytes of corrections left, "
                f"{len(target)} were asked for: was it dealt for another program or number of images?"
            )
        while done < len(target):
            if not self._piece:
                self._index += 1
                try:
                    self._piece = memoryview(self._sealing.open(self._index, self._descriptor, f"{self.item.id}.spent"))
                except BlobError:
                    self.close()
                    raise
            count = min(len(self._piece), len(target) - done)
            target[done : done + count] = self._piece[:count]
            self._piece = self._piece[count:]
            done += count
        self._left -= done

    def close(self) -> None:
        """Delete the secrets from memory and disk. May be called twice."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            self._seed, self._piece = b"", memoryview(b"")
            self._store._forget(self.item.id, descriptor)

    def _check_open(self) -> None:
        if self._descriptor < 0:
            raise LocalProtocolError(f"correlation {self.item.id} was closed: what it held is deleted, spend another")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Spent({self.item.id}, {'closed' if self._descriptor < 0 else 'open'})"


class CorrelationStore:
    """The correlations that one party holds ready. One process has it open at a time; safe to use from several threads.

    Opening reads the header of every unspent file (some 0.1 ms each). Secrets are deleted by cutting files short, which
    a solid-state disk may not carry out at once: put the directory on an encrypted disk, and never restore a backup.

    Parameters
    ----------
    directory : Path
        Made (0700) if missing, with a fresh key.
    limit_bytes : int
        What its files may take on disk.

    Raises
    ------
    KeyMaterialError
        If another process has it open, other users can read it, or its key is missing or malformed.
    """

    def __init__(self, directory: Path, *, limit_bytes: int = 64 << 30) -> None:
        self._path, self._limit, self._pid, self._mutex = Path(directory), limit_bytes, os.getpid(), threading.RLock()
        self._ready: dict[str, Correlation] = {}
        self._damaged: dict[str, BlobError] = {}
        self._spent: set[str] = set()
        self._sizes: dict[str, int] = {}  # bytes on disk of everything but tombstones, files under way included
        self._open: dict[str, Spent] = {}
        self._lock = self._directory = -1
        try:
            self._directory = self._open_directory()
            self._lock = self._take_lock()
            with os.scandir(self._directory) as entries:
                sizes = {entry.name: entry.stat(follow_symlinks=False).st_size for entry in entries}
            self._master = self._load_key(empty=not any(_NAME.match(name) for name in sizes))
            self._scan(sizes)
        except OSError as error:
            self.close()
            raise KeyMaterialError(f"{self._path} cannot be opened as a store: {error.strerror}") from None
        except BaseException:
            self.close()
            raise

    def put(self, item: Correlation, seed: bytes, corrections: Iterable[Buffer]) -> None:
        """Store a correlation; it is on disk when this returns, and not in the store at all if it raises.

        Cost: one encryption and one write of its bytes, 2 MiB of memory, three waits for the disk.

        Parameters
        ----------
        item : Correlation
            Its `size` is the total of the corrections.
        seed : bytes
            32 secret bytes.
        corrections : iterable of buffers
            Of any lengths, as they come.

        Raises
        ------
        BlobError
            If the description, the seed's or the corrections' size is wrong, or the limit or the disk is full.
        BudgetError
            If the id is in the store or was ever spent.
        """
        self._check_alive()
        sealing = self._new_sealing(item, seed)
        identity = sealing.item.id
        self._reserve(identity, sealing.file_size)
        try:
            self._write(sealing, seed, corrections)
            with self._mutex:
                self._check_alive()
                os.rename(
                    f"{identity}.part", f"{identity}.ready", src_dir_fd=self._directory, dst_dir_fd=self._directory
                )
                self._ready[identity] = sealing.item
                os.fsync(self._directory)
        except BaseException as error:
            with self._mutex:
                self._ready.pop(identity, None)
                self._sizes.pop(identity, None)
                self._remove(f"{identity}.part", f"{identity}.ready")
            if isinstance(error, OSError) and error.errno in _DISK_ERRORS:  # the dealer's link may fail as well
                raise BlobError(f"{identity} cannot be stored in {self._path} ({error.strerror}): make room") from None
            raise

    def available(
        self,
        program: str | None = None,
        images: int | None = None,
        epoch: str | None = None,
        dealer: str | None = None,
    ) -> list[Correlation]:
        """Return the unspent correlations that fit everything given, oldest first."""
        wanted = {"program": program, "images": images, "epoch": epoch, "dealer": dealer}
        given = {name: value for name, value in wanted.items() if value is not None}
        with self._mutex:
            self._check_alive()
            found = [x for x in self._ready.values() if all(getattr(x, name) == value for name, value in given.items())]
        return sorted(found, key=lambda x: (x.created, x.id))

    def spend(self, id: str) -> Spent:  # noqa: A002 - what everyone calls it
        """Take a correlation out for good, then give access to its secrets. Use it in a `with` block.

        Raises
        ------
        BudgetError
            If it was ever spent, or is not in the store.
        BlobError
            If `id` is not an id, or the file is damaged; a file found damaged is listed no more.
        """
        if not _ID.match(id):
            raise BlobError(f"{id[:80]!r} is not the id of a correlation, which has 32 hex characters")
        ready, spent = f"{id}.ready", f"{id}.spent"
        with self._mutex:
            self._check_alive()
            if id in self._spent:
                raise BudgetError(f"correlation {id} was spent already and can never serve again: spend another one")
            if id in self._damaged:
                raise BlobError(str(self._damaged[id]))
            if id not in self._ready:
                raise BudgetError(f"correlation {id} is not in {self._path}: see available(), or deal it first")
            descriptor = -1
            try:
                descriptor = os.open(ready, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._directory)
                sealing, seed = read_sealing(descriptor, ready, self._master)
                self._spent.add(id)  # before the attempt: if its outcome is unknown, it counts
                del self._ready[id]
                os.rename(ready, spent, src_dir_fd=self._directory, dst_dir_fd=self._directory)
                os.fsync(self._directory)
            except (BlobError, OSError) as error:
                if descriptor >= 0:
                    os.close(descriptor)
                self._ready.pop(id, None)
                if isinstance(error, OSError):
                    error = BlobError(f"{ready} cannot be spent ({error.strerror}): check the disk, spend another one")
                if id not in self._spent:
                    self._damaged[id] = error
                raise error from None
            out = self._open[id] = Spent(self, descriptor, sealing, seed)
            return out

    def counts(self) -> dict[str, int]:
        """Return how many are `available` and `spent`, and the `bytes` that the files take on disk."""
        with self._mutex:
            self._check_alive()
            return {"available": len(self._ready), "spent": len(self._spent), "bytes": sum(self._sizes.values())}

    def discard(self, *, program: str | None = None, epoch: str | None = None) -> int:
        """Delete what can no longer be used: the unspent of another program or epoch than those given, and the damaged.

        Returns
        -------
        int
            How many files were deleted.
        """
        with self._mutex:
            self._check_alive()
            gone = [
                x.id
                for x in self._ready.values()
                if (program is not None and x.program != program) or (epoch is not None and x.epoch != epoch)
            ]
            gone += self._damaged
            for identity in gone:
                self._ready.pop(identity, None)
                self._damaged.pop(identity, None)
                self._sizes.pop(identity, None)
            self._remove(*(f"{identity}.ready" for identity in gone))
            return len(gone)

    def close(self) -> None:
        """Close it, and every correlation taken out of it. May be called twice."""
        with self._mutex:
            for spent in list(self._open.values()):
                spent.close()
            if self._lock >= 0:
                if self._pid == os.getpid():
                    fcntl.flock(self._lock, fcntl.LOCK_UN)  # a forked child may hold the file open
                os.close(self._lock)
            if self._directory >= 0:
                os.close(self._directory)
            self._lock = self._directory = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------- opening

    def _open_directory(self) -> int:
        if not self._path.exists():
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            parent = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(parent)
            os.close(parent)
        descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _check_private(descriptor, self._path)
        except KeyMaterialError:
            os.close(descriptor)
            raise
        return descriptor

    def _take_lock(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        descriptor = os.open("store.lock", flags, 0o600, dir_fd=self._directory)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise KeyMaterialError(
                f"{self._path} is open already, in another process or this one: a store serves one process. "
                "Stop the other one, or give this one a directory of its own"
            ) from None
        return descriptor

    def _load_key(self, *, empty: bool) -> bytes:
        path, flags = self._path / "store.key", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            descriptor = os.open("store.key", flags, dir_fd=self._directory)
        except FileNotFoundError:
            if not empty:
                raise KeyMaterialError(
                    f"{path} is missing beside correlations: put it back, or name an empty directory"
                ) from None
            self._make_key()
            descriptor = os.open("store.key", flags, dir_fd=self._directory)
        with os.fdopen(descriptor, "rb") as file:
            _check_private(descriptor, path)
            key = file.read(KEY_BYTES + 1)
        if len(key) != KEY_BYTES:
            raise KeyMaterialError(f"{path} is not a key of {KEY_BYTES} bytes: put it back, or name an empty directory")
        return key

    def _make_key(self) -> None:
        self._remove("store.key.part")
        with self._create("store.key.part") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        os.rename("store.key.part", "store.key", src_dir_fd=self._directory, dst_dir_fd=self._directory)
        os.fsync(self._directory)

    def _scan(self, sizes: dict[str, int]) -> None:
        """Read what is there, finish what a killed process left: partial files go, secrets of spent ones are cut off."""
        found = [match.groups() for match in map(_NAME.match, sizes) if match]
        self._spent = {identity for identity, kind in found if kind == "spent"}
        for identity, kind in found:
            name = f"{identity}.{kind}"
            if kind == "spent":
                if sizes[name]:
                    self._truncate(name)
            elif kind == "part" or identity in self._spent:
                if kind == "ready":
                    _log.warning("%s was spent already and came back: it is deleted", self._path / name)
                self._remove(name)
            else:
                self._sizes[identity] = sizes[name]
                self._scan_ready(identity, name)

    def _scan_ready(self, identity: str, name: str) -> None:
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._directory)
            try:
                self._ready[identity] = read_sealing(descriptor, name, self._master)[0].item
            finally:
                os.close(descriptor)
        except OSError as error:
            self._damaged[identity] = BlobError(f"{name} cannot be read ({error.strerror}): remove it")
        except BlobError as error:
            self._damaged[identity] = error
        if identity in self._damaged:
            _log.warning("in %s: %s", self._path, self._damaged[identity])

    # ------------------------------------------------------------------------------------------------------- writing

    def _new_sealing(self, item: Correlation, seed: bytes) -> Sealing:
        if len(seed) != SEED_BYTES:
            raise BlobError(f"a correlation's seed must have {SEED_BYTES} bytes, got {len(seed)}")
        try:
            if isinstance(item.created, int):  # has another encoding, and a header has but one
                item = replace(item, created=float(item.created))
            encoded = msgspec.msgpack.encode(Header(item, secrets.token_bytes(16)))
        except (TypeError, ValueError, OverflowError) as error:
            raise BlobError(f"not the description of a correlation ({error}): deal another one") from None
        header = decode_header(encoded, "the correlation to be stored")
        return Sealing.of(header, encoded, self._master)

    def _reserve(self, identity: str, size: int) -> None:
        with self._mutex:
            if identity in self._spent:
                raise BudgetError(f"correlation {identity} was spent already and cannot be stored again: deal another")
            if identity in self._sizes:
                raise BudgetError(f"correlation {identity} is in the store already: deal one with an id of its own")
            held = sum(self._sizes.values())
            if held + size > self._limit:
                raise BlobError(
                    f"correlation {identity} takes {size} bytes and {self._path} holds {held} of at most {self._limit}: "
                    "spend or discard some, or raise limit_bytes"
                )
            self._sizes[identity] = size

    def _write(self, sealing: Sealing, seed: bytes, corrections: Iterable[Buffer]) -> None:
        item, piece, filled, total, index = sealing.item, memoryview(bytearray(CHUNK)), 0, 0, 0
        with self._create(f"{item.id}.part") as file:
            file.write(sealing.head)
            file.write(sealing.seal(0, seed))
            for buffer in corrections:
                view = _bytes_of(buffer)
                total += len(view)
                if total > item.size:
                    break
                while view:
                    count = min(len(view), CHUNK - filled)
                    piece[filled : filled + count] = view[:count]
                    filled, view = filled + count, view[count:]
                    if filled == CHUNK:
                        index, filled = index + 1, 0
                        file.write(sealing.seal(index, piece))
            if total != item.size:
                count_text = f"more than {item.size}" if total > item.size else str(total)
                raise BlobError(f"correlation {item.id} came with {count_text} bytes of corrections, not {item.size}")
            if filled:
                file.write(sealing.seal(index + 1, piece[:filled]))
            file.flush()
            os.fsync(file.fileno())

    # ----------------------------------------------------------------------------------------------------- directory

    def _create(self, name: str) -> BufferedWriter:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(name, flags, 0o600, dir_fd=self._directory)
        return os.fdopen(descriptor, "wb")

    def _remove(self, *names: str) -> None:
        for name in names:
            with suppress(OSError):  # gone already, or not a file: nothing that could be taken for a correlation
                os.unlink(name, dir_fd=self._directory)

    def _truncate(self, name: str) -> None:
        with suppress(OSError):  # not a file: a tombstone all the same
            descriptor = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._directory)
            try:
                os.ftruncate(descriptor, 0)
            finally:
                os.close(descriptor)

    def _forget(self, identity: str, descriptor: int) -> None:
        """Delete the secrets of a spent file. A crash before the disk has it: the next opening does it again."""
        try:
            if self._pid == os.getpid():
                os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)
            with self._mutex:
                self._open.pop(identity, None)
                self._sizes.pop(identity, None)

    def _check_alive(self) -> None:
        if self._directory < 0:
            raise LocalProtocolError(f"the store {self._path} is closed: open it again")
        if self._pid != os.getpid():
            raise LocalProtocolError(f"the store {self._path} was opened by process {self._pid}, not this one")


def _check_private(descriptor: int, path: Path) -> None:
    info = os.fstat(descriptor)
    if info.st_uid != os.geteuid():
        raise KeyMaterialError(
            f"{path} belongs to user {info.st_uid}, not to this process's user: name another directory"
        )
    if info.st_mode & 0o077:
        raise KeyMaterialError(
            f"{path} has mode {stat.S_IMODE(info.st_mode):04o}, so other users may use it: run `chmod go= {path}`, "
            "and start with an empty directory if somebody may have"
        )
