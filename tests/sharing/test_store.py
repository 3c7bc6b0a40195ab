"""A stored correlation comes back as it was put, only to its party, and never twice: not after a kill at any moment."""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import secrets
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secureimg.errors import BlobError, BudgetError, KeyMaterialError, LocalProtocolError
from secureimg.sharing.store import Correlation, CorrelationStore

MIB = 1 << 20
SEED = bytes(range(32))


def correlation(size: int = 100, **changes: Any) -> Correlation:
    item = Correlation(secrets.token_hex(16), "ab" * 32, 1, "dealer.example", "cd" * 16, size, 1_700_000_000.5)
    return dataclasses.replace(item, **changes)


def stored(store: CorrelationStore, data: bytes = b"c" * 100, **changes: Any) -> Correlation:
    item = correlation(len(data), **changes)
    store.put(item, SEED, [data])
    return item


def read_all(store: CorrelationStore, item: Correlation) -> bytes:
    with store.spend(item.id) as spent:
        out = np.zeros(item.size, np.uint8)
        spent.read(out)
        return out.tobytes()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(place: Path) -> Iterator[CorrelationStore]:
    with CorrelationStore(place) as opened:
        yield opened


# ------------------------------------------------------------------------------------------------------- round trip


def test_megabytes_come_back_in_pieces_of_any_size(place: Path, rng: np.random.Generator) -> None:
    data = rng.integers(0, 256, 5 * MIB + 12_345, dtype=np.uint8)
    item = correlation(data.size)
    with CorrelationStore(place) as store:
        cuts = [0, 1, 1, MIB, 3 * MIB + 7, data.size]
        store.put(item, SEED, (data[a:b] for a, b in itertools.pairwise(cuts)))
    with CorrelationStore(place) as store:
        assert store.available() == [item]
        with store.spend(item.id) as spent:
            assert (spent.item, spent.seed) == (item, SEED)
            out = np.zeros_like(data)
            for part in np.split(out, [0, 3, MIB - 1, MIB + 1, 4 * MIB, data.size - 1]):
                spent.read(part)
            assert np.array_equal(out, data)
            with pytest.raises(BlobError, match=r"has 0 of .* left, 1 were asked"):
                spent.read(bytearray(1))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(0, 3000), max_size=6),
    dealer=st.text(st.characters(categories=["L", "N", "P"]), max_size=200),
    images=st.integers(1, 1 << 32),
    created=st.floats(0, 1e12),
    draw=st.data(),
)
def test_every_description_and_cut_comes_back(
    store: CorrelationStore, sizes: list[int], dealer: str, images: int, created: float, draw: st.DataObject
) -> None:
    pieces = [os.urandom(size) for size in sizes]
    item = correlation(sum(sizes), dealer=dealer, images=images, created=created)
    store.put(item, SEED, pieces)
    assert item in store.available(dealer=dealer, images=images)
    with store.spend(item.id) as spent:
        out = b""
        while len(out) < item.size:
            part = bytearray(draw.draw(st.integers(1, item.size - len(out))))
            spent.read(part)
            out += part
    assert out == b"".join(pieces)


def test_words_are_stored_as_their_bytes(store: CorrelationStore) -> None:
    words = np.arange(1000, dtype=np.uint64)
    item = correlation(words.nbytes)
    store.put(item, SEED, [words])
    out = np.zeros(1000, np.uint64)
    with store.spend(item.id) as spent:
        spent.read(memoryview(out).cast("B"))
    assert np.array_equal(out, words)


def test_the_list_is_filtered_and_oldest_first(store: CorrelationStore) -> None:
    late = stored(store, created=30.0)
    early = stored(store, created=10.0, program="ef" * 4)
    other = stored(store, created=20.0, images=8, epoch="12" * 4, dealer="somebody")
    assert store.available() == [early, other, late]
    assert store.available(program="ef" * 4) == [early]
    assert store.available(images=8, dealer="somebody", epoch="12" * 4) == [other]
    assert store.available(images=8, dealer="nobody") == []


def test_whole_seconds_are_a_time_too(store: CorrelationStore) -> None:
    assert stored(store, created=1_700_000_000) in store.available()


def test_counts_follow_what_happens(store: CorrelationStore, place: Path) -> None:
    items = [stored(store) for _ in range(3)]
    on_disk = sum(path.stat().st_size for path in place.glob("*.ready"))
    assert store.counts() == {"available": 3, "spent": 0, "bytes": on_disk}
    read_all(store, items[0])
    assert store.counts() == {"available": 2, "spent": 1, "bytes": on_disk * 2 // 3}


def test_discarding_keeps_what_can_still_serve(store: CorrelationStore, place: Path) -> None:
    kept = stored(store)
    stored(store, program="ef" * 4)
    stored(store, epoch="12" * 4)
    assert store.discard() == 0, "nothing named, nothing damaged"
    assert store.discard(program=kept.program) == 1
    assert store.discard(program=kept.program, epoch=kept.epoch) == 1
    assert store.available() == [kept]
    assert [path.stem for path in place.glob("*.ready")] == [kept.id]


def test_several_threads_spend_each_correlation_once(store: CorrelationStore) -> None:
    ids = [stored(store).id for _ in range(12)]
    got: list[str] = []

    def spend_all() -> None:
        for identity in ids:
            try:
                with store.spend(identity) as spent:
                    got.append(spent.item.id)
            except BudgetError:
                pass

    threads = [threading.Thread(target=spend_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == sorted(ids)


# ---------------------------------------------------------------------------------------------------------- secrecy


def test_nothing_in_the_directory_is_for_others_or_in_the_clear(place: Path) -> None:
    old = os.umask(0)  # the most careless of surroundings
    try:
        with CorrelationStore(place) as store:
            stored(store, b"plaintext of the corrections" * 100)
            assert stat.S_IMODE(place.stat().st_mode) == 0o700
            assert {stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()} == {0o600}
            raw = b"".join(path.read_bytes() for path in place.iterdir())
    finally:
        os.umask(old)
    assert b"plaintext" not in raw
    assert SEED[:8] not in raw


@pytest.mark.parametrize("name", [".", "store.key"])
@pytest.mark.parametrize("mode", [0o040, 0o004, 0o020])
def test_a_store_that_others_can_use_is_refused(place: Path, name: str, mode: int) -> None:
    CorrelationStore(place).close()
    target = place / name
    target.chmod(target.stat().st_mode | mode)
    with pytest.raises(KeyMaterialError, match="chmod"):
        CorrelationStore(place)


def test_a_key_is_never_made_anew_beside_correlations(place: Path) -> None:
    with CorrelationStore(place) as store:
        stored(store)
    key = (place / "store.key").read_bytes()
    (place / "store.key").unlink()
    with pytest.raises(KeyMaterialError, match="is missing"):
        CorrelationStore(place)
    (place / "store.key").write_bytes(key[:-1])
    (place / "store.key").chmod(0o600)
    with pytest.raises(KeyMaterialError, match="not a key"):
        CorrelationStore(place)
    (place / "store.key").unlink()
    (place / "elsewhere").write_bytes(key)
    (place / "store.key").symlink_to(place / "elsewhere")
    with pytest.raises(KeyMaterialError, match="cannot be opened"):
        CorrelationStore(place)


def test_no_secret_in_a_repr_and_none_after_the_end(store: CorrelationStore, place: Path) -> None:
    item = stored(store, b"\xa5" * 100)
    with store.spend(item.id) as spent:
        texts = [repr(spent), str(spent), repr(store)]
        assert (place / f"{item.id}.spent").stat().st_size > 100
    assert not any(SEED.hex()[:16] in text or "a5a5" in text or str(SEED)[2:20] in text for text in texts)
    assert (place / f"{item.id}.spent").stat().st_size == 0, "the file is a tombstone now"
    with pytest.raises(LocalProtocolError, match="closed"):
        _ = spent.seed
    with pytest.raises(LocalProtocolError, match="closed"):
        spent.read(bytearray(1))


def test_equal_contents_are_never_sealed_alike(store: CorrelationStore, place: Path) -> None:
    item = correlation(64)
    store.put(item, SEED, [bytes(64)])
    first = (place / f"{item.id}.ready").read_bytes()
    assert store.discard(program="00" * 4) == 1
    store.put(item, SEED, [bytes(64)])
    second = (place / f"{item.id}.ready").read_bytes()
    assert first[-80:] != second[-80:], "the same key and nonce would have sealed two texts"


# ------------------------------------------------------------------------------------------------------ never twice


def test_one_process_at_a_time(store: CorrelationStore, place: Path) -> None:
    code = "import sys; from pathlib import Path; from secureimg.sharing.store import *; CorrelationStore(Path(sys.argv[1]))"
    result = subprocess.run([sys.executable, "-c", code, str(place)], capture_output=True, text=True, check=False)
    assert "KeyMaterialError" in result.stderr
    assert str(place) in result.stderr
    assert "directory of its own" in result.stderr
    with pytest.raises(KeyMaterialError, match="open already"):
        CorrelationStore(place)
    store.close()
    CorrelationStore(place).close()


def test_spent_is_spent_here_and_after_reopening(place: Path) -> None:
    with CorrelationStore(place) as store:
        item = stored(store)
        with store.spend(item.id), pytest.raises(BudgetError, match=item.id):
            store.spend(item.id)
        with pytest.raises(BudgetError, match="spent already"):
            store.spend(item.id)
    with CorrelationStore(place) as store:
        assert store.available() == []
        with pytest.raises(BudgetError, match="spent already"):
            store.spend(item.id)
        with pytest.raises(BudgetError, match="spent already"):
            store.put(item, SEED, [b"c" * 100])
        with pytest.raises(BudgetError, match="not in"):
            store.spend("00" * 16)


def test_an_id_is_stored_once(store: CorrelationStore) -> None:
    item = stored(store, b"1" * 100)
    with pytest.raises(BudgetError, match="already"):
        store.put(item, SEED, [b"2" * 100])
    assert read_all(store, item) == b"1" * 100


@pytest.mark.parametrize("while_open", [True, False])
def test_a_copy_put_back_after_spending_is_refused(place: Path, while_open: bool) -> None:
    store = CorrelationStore(place)
    item = stored(store)
    ready = place / f"{item.id}.ready"
    copy = ready.read_bytes()
    read_all(store, item)
    if while_open:
        ready.write_bytes(copy)
    else:
        store.close()
        ready.write_bytes(copy)
        store = CorrelationStore(place)
    with store:
        assert store.available() == []
        with pytest.raises(BudgetError, match="spent already"):
            store.spend(item.id)


def _calls(action: Callable[[], Any]) -> list[str]:
    """Names of the operating system's calls that an action makes, in order."""
    seen: list[str] = []
    old = sys.getprofile()
    sys.setprofile(
        lambda _, event, call: (
            seen.append(call.__name__) if event == "c_call" and getattr(call, "__module__", "") == "posix" else None
        )
    )
    try:
        action()
    finally:
        sys.setprofile(old)
    return seen


def test_the_disk_has_it_before_put_and_spend_return(store: CorrelationStore) -> None:
    item = correlation()
    put = [name for name in _calls(lambda: store.put(item, SEED, [b"c" * 100])) if name in ("fsync", "rename")]
    assert put == ["fsync", "rename", "fsync"], "the file, then its name, then the directory"
    spend = [name for name in _calls(lambda: store.spend(item.id)) if name in ("fsync", "rename")]
    assert spend == ["rename", "fsync"]


def test_a_forked_child_cannot_spend(store: CorrelationStore) -> None:
    code = """
        import os, sys
        from pathlib import Path
        from secureimg.errors import LocalProtocolError
        from secureimg.sharing.store import Correlation, CorrelationStore
        store = CorrelationStore(Path(sys.argv[1]))
        store.put(Correlation("0" * 32, "ab" * 4, 1, "d", "cd" * 4, 0, 1.0), bytes(32), [])
        if os.fork() == 0:
            try:
                store.spend("0" * 32)
            except LocalProtocolError:
                store.close()
                os._exit(7)
            os._exit(8)
        child = os.waitstatus_to_exitcode(os.wait()[1])
        try:
            CorrelationStore(Path(sys.argv[1]))
        except Exception:
            pass
        else:
            child = 9
        store.spend("0" * 32).close()
        sys.exit(child)
    """
    place = store._path.parent / "forked"
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(place)], check=False).returncode == 7


# ---------------------------------------------------------------------------------------------------- bad contents


def _spoil(path: Path, change: Callable[[bytearray], bytes | bytearray]) -> None:
    path.write_bytes(change(bytearray(path.read_bytes())))


def _flip(data: bytearray, at: int) -> bytearray:
    data[at] ^= 1
    return data


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Correlation, bytes]:
    place = tmp_path_factory.mktemp("sound") / "store"
    with CorrelationStore(place) as store:
        item = stored(store, bytes(2 * MIB + 5))
    return place, item, (place / f"{item.id}.ready").read_bytes()


def refused(sound: tuple[Path, Correlation, bytes], data: bytes, name: str | None = None) -> str:
    """Put a file into a store and return why it is refused, at the latest when it is read."""
    place, item, original = sound
    identity = name or item.id
    path = place / f"{identity}.ready"
    path.write_bytes(data)
    try:
        with CorrelationStore(place) as store:
            listed = identity in [x.id for x in store.available()]

            def use() -> None:
                with store.spend(identity) as spent:
                    assert listed
                    spent.read(bytearray(item.size))

            with pytest.raises(BlobError) as caught:
                use()
            assert identity not in [x.id for x in store.available()]
            with pytest.raises((BlobError, BudgetError)):
                store.spend(identity)
    finally:
        path.unlink(missing_ok=True)
        (place / f"{identity}.spent").unlink(missing_ok=True)
        (place / f"{item.id}.ready").write_bytes(original)
    return str(caught.value)


HEAD = 14


@settings(max_examples=40)
@given(st.data())
def test_any_changed_bit_is_noticed(sound: tuple[Path, Correlation, bytes], draw: st.DataObject) -> None:
    _, item, original = sound
    regions = {"header": (0, len(original) - item.size - 48 - 48), "seed": (len(original) - item.size - 96, 48)}
    start, length = draw.draw(st.sampled_from([*regions.values(), (0, len(original))]))
    data = bytearray(original)
    data[start + draw.draw(st.integers(0, length - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    assert f"{item.id}." in refused(sound, bytes(data))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"dealer.example", b"dealer.exomple"),
        (b"ab" * 32, b"ac" * 32),
        (b"cd" * 16, b"ce" * 16),
        (b"images\x01", b"images\x02"),
    ],
)
def test_a_sound_description_that_was_not_sealed_is_noticed(
    sound: tuple[Path, Correlation, bytes], old: bytes, new: bytes
) -> None:
    assert sound[2].count(old) == 1
    assert "damaged: chunk 0" in refused(sound, sound[2].replace(old, new))


@settings(max_examples=15)
@given(st.data())
def test_any_other_length_is_noticed(sound: tuple[Path, Correlation, bytes], draw: st.DataObject) -> None:
    _, item, original = sound
    cut = draw.draw(st.one_of(st.integers(0, 600), st.integers(0, len(original) - 1)))
    assert item.id in refused(sound, original[:cut])
    assert item.id in refused(sound, original + original[cut:])


def test_chunks_do_not_change_places(sound: tuple[Path, Correlation, bytes]) -> None:
    _, item, original = sound
    first = len(original) - item.size - 48
    step = MIB + 16
    one, two = original[first : first + step], original[first + step : first + 2 * step]
    assert "damaged: chunk 1" in refused(sound, original[:first] + two + one + original[first + 2 * step :])
    assert "damaged: chunk 2" in refused(sound, original[:first] + one + one + original[first + 2 * step :])


def test_a_renamed_file_is_noticed(sound: tuple[Path, Correlation, bytes]) -> None:
    assert "was renamed" in refused(sound, sound[2], "ff" * 16)


def test_two_files_swapped_are_noticed(place: Path) -> None:
    with CorrelationStore(place) as store:
        items = [stored(store, bytes([n]) * 100) for n in range(2)]
    one, two = (place / f"{item.id}.ready" for item in items)
    contents = one.read_bytes(), two.read_bytes()
    one.write_bytes(contents[1])
    two.write_bytes(contents[0])
    with CorrelationStore(place) as store:
        assert store.available() == []
        for item in items:
            with pytest.raises(BlobError, match="was renamed"):
                store.spend(item.id)
        assert store.discard() == 2, "damaged ones can be discarded"
        assert list(place.glob("*.ready")) == []


def test_a_file_of_another_store_is_noticed(place: Path, tmp_path: Path) -> None:
    with CorrelationStore(tmp_path / "other") as other:
        item = stored(other)
    CorrelationStore(place).close()
    (tmp_path / "other" / f"{item.id}.ready").rename(place / f"{item.id}.ready")
    with CorrelationStore(place) as store, pytest.raises(BlobError, match="damaged: chunk 0"):
        store.spend(item.id)


def test_damage_since_opening_is_noticed_before_anything_is_spent(store: CorrelationStore, place: Path) -> None:
    item, other = stored(store), stored(store, created=1.0)
    _spoil(place / f"{item.id}.ready", lambda data: _flip(data, HEAD + 20))
    with pytest.raises(BlobError, match=item.id):
        store.spend(item.id)
    with pytest.raises(BlobError, match=item.id):
        store.spend(item.id)
    assert store.available() == [other]
    assert store.counts()["spent"] == 0


def test_links_and_other_files_are_never_followed(place: Path, tmp_path: Path) -> None:
    with CorrelationStore(place) as store:
        item = stored(store)
    path = place / f"{item.id}.ready"
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    os.mkfifo(place / ("1" * 32 + ".ready"))
    (place / ("2" * 32 + ".ready")).mkdir()
    (place / "notes.txt").write_text("left alone")
    with CorrelationStore(place) as store:
        assert store.available() == []
        for identity in (item.id, "1" * 32, "2" * 32):
            with pytest.raises(BlobError, match=identity):
                store.spend(identity)
    assert (place / "notes.txt").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "../../etc/passwd"},
        {"id": "AB" * 16},
        {"id": "ab" * 16 + "\n"},
        {"program": "ab"},
        {"program": "ab" * 65},
        {"images": 0},
        {"images": True},
        {"dealer": "x" * 201},
        {"dealer": "line\nbreak"},
        {"dealer": "\ud800"},
        {"epoch": "xyz" * 4},
        {"size": -1},
        {"size": 1 << 41},
        {"size": 1 << 70},
        {"created": float("nan")},
        {"created": float("inf")},
        {"created": "now"},
        {"created": 10**400},
    ],
)
def test_a_description_out_of_bounds_is_refused(store: CorrelationStore, place: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(BlobError):
        store.put(correlation(**changes), SEED, [b"c" * 100])
    assert sorted(path.name for path in place.iterdir()) == ["store.key", "store.lock"]


@pytest.mark.parametrize("identity", ["", "../x", "00" * 16 + "\n", "é" * 32, "0" * 31, "AB" * 16])
def test_a_peers_text_that_is_no_id_reaches_no_path(store: CorrelationStore, identity: str) -> None:
    with pytest.raises(BlobError, match="not the id"):
        store.spend(identity)


@pytest.mark.parametrize("pieces", [[], [b"c" * 99], [b"c" * 101], [b"c" * 60, b"c" * 60]])
def test_corrections_of_another_size_are_refused(store: CorrelationStore, place: Path, pieces: list[bytes]) -> None:
    item = correlation(100)
    with pytest.raises(BlobError, match="not 100"):
        store.put(item, SEED, pieces)
    with pytest.raises(BlobError, match="seed must have 32"):
        store.put(item, SEED[:-1], [b"c" * 100])
    assert list(place.glob(f"{item.id}*")) == []
    assert store.counts() == {"available": 0, "spent": 0, "bytes": 0}
    store.put(item, SEED, [b"c" * 100])  # a failed attempt does not burn the id


def test_a_dealer_that_fails_half_way_leaves_nothing(store: CorrelationStore, place: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield bytes(MIB)
        raise ConnectionResetError("the dealer is gone")

    with pytest.raises(ConnectionResetError, match="the dealer is gone"):
        store.put(correlation(2 * MIB), SEED, broken())
    assert sorted(path.name for path in place.iterdir()) == ["store.key", "store.lock"]
    assert store.counts()["bytes"] == 0


def test_the_limit_holds_and_spending_makes_room(place: Path) -> None:
    with CorrelationStore(place, limit_bytes=3000) as store:
        first = stored(store, bytes(1000))
        stored(store, bytes(1000))
        with pytest.raises(BlobError, match="at most 3000"):
            stored(store, bytes(1000))
        read_all(store, first)
        stored(store, bytes(1000))
        assert sum(path.stat().st_size for path in place.glob("*.*") if path.suffix != ".key") <= 3000


def test_a_closed_store_says_so(place: Path) -> None:
    store = CorrelationStore(place)
    spent = store.spend(stored(store).id)
    store.close()
    store.close()
    assert [path.stat().st_size for path in place.glob("*.spent")] == [0]
    for action in (store.available, store.counts, store.discard, lambda: store.spend("0" * 32), lambda: stored(store)):
        with pytest.raises(LocalProtocolError, match="closed"):
            action()
    with pytest.raises(LocalProtocolError, match="closed"):
        spent.read(bytearray(1))


# ------------------------------------------------------------------------------------------------------------ kills

WORK = """
    import os, secrets, signal, sys
    from pathlib import Path
    from secureimg.sharing.store import Correlation, CorrelationStore

    def work(store, wire, rounds):
        for _ in range(rounds):
            item = Correlation(secrets.token_hex(16), "ab" * 4, 1, "d", "cd" * 4, 1_500_000, 1.0)
            store.put(item, bytes.fromhex(item.id * 2), [bytes.fromhex(item.id) * 93_750])
            for listed in store.available()[:2]:
                with store.spend(listed.id) as spent:
                    os.write(wire, listed.id.encode() + b"\\n")
                    out = bytearray(listed.size)
                    spent.read(out)
                    assert bytes(out[-16:]).hex() == listed.id and spent.seed.hex() == listed.id * 2

    def run(place, rounds):
        place.mkdir(exist_ok=True)
        wire = os.open(place / "wire", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with CorrelationStore(place / "store") as store:
            work(store, wire, rounds)
        os._exit(0)
"""

NURSERY = """
    for _ in sys.stdin:  # forked, not started anew: an interpreter's start takes longer than what is tested here
        child = os.fork()
        if child == 0:
            run(Path(sys.argv[1]), 2000)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

EVERY_CALL = """
    def kill_at(point):
        seen = 0
        def count(frame, event, call):
            nonlocal seen
            if event in ("c_call", "c_return") and getattr(call, "__module__", "") == "posix":
                seen += 1
                if seen == point:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.setprofile(count)

    def forked(point, action, *args):
        child = os.fork()
        if child == 0:
            if point:
                kill_at(point)
            action(*args)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    point, status = 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        point += 1
        status = forked(point, run, Path(sys.argv[1]) / str(point), 1)
        assert forked(0, run, Path(sys.argv[1]) / str(point), 1) == 0, point
    assert status == 0, status
    print(point)
"""


def check_after_kills(directory: Path) -> int:
    """No id went over the wire twice; what lies there is whole and usable. Returns how many ids went over it."""
    place, ids = directory / "store", (directory / "wire").read_text().split()
    assert [identity for identity, times in Counter(ids).items() if times > 1] == []
    with CorrelationStore(place) as store:
        assert {path.suffix for path in place.iterdir()} <= {".key", ".lock", ".ready", ".spent"}
        assert all(path.stat().st_size == 0 for path in place.glob("*.spent"))
        assert len(store.available()) == len(list(place.glob("*.ready"))), "none is damaged"
        for identity in ids:
            with pytest.raises(BudgetError):
                store.spend(identity)
        for item in store.available():
            assert read_all(store, item)[:16].hex() == item.id
        assert read_all(store, stored(store, b"after all")) == b"after all"
    return len(ids)


def test_no_correlation_goes_over_the_wire_twice_when_killed_at_random(tmp_path: Path) -> None:
    code, chance = textwrap.dedent(WORK) + textwrap.dedent(NURSERY), random.Random(7)
    with subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as nursery:
        assert nursery.stdin
        assert nursery.stdout
        for _ in range(40):
            nursery.stdin.write("next\n")
            nursery.stdin.flush()
            child = int(nursery.stdout.readline())
            time.sleep(chance.uniform(0.0, 0.1))
            os.kill(child, signal.SIGKILL)
            assert int(nursery.stdout.readline()) == -signal.SIGKILL, "it never ends by itself"
        assert nursery.communicate()[1] == ""
    assert check_after_kills(tmp_path) > 20, "the kills came before anything was spent"


def test_no_correlation_goes_over_the_wire_twice_when_killed_at_any_call(tmp_path: Path) -> None:
    """Kills before and after every single call into the operating system of a run: open, put, spend, read, delete."""
    code = textwrap.dedent(WORK) + textwrap.dedent(EVERY_CALL)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    points = int(done.stdout)
    assert points > 40, "there are more calls than this on the way"
    sent = [check_after_kills(tmp_path / str(point)) for point in range(1, points + 1)]
    assert set(sent) == {1, 2}, (
        "the second run spends what the first one left, and its own; one may be lost, none doubled"
    )
