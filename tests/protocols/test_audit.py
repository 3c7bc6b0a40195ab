"""The audit log: what is done to it is found, what happens to its process does not break it, and no answer goes without."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols.operations import AuditError, AuditLog, Observer
from protocols.operations.allowance import Allowance
from protocols.operations.audit_reading import in_order, read

OWNER = "ab" * 32
ANSWER: dict[str, Any] = {
    "session": "5e551011", "model": "tiny", "program": "cd" * 32, "images": 2, "reveal": "label", "seconds": 0.25,
}  # fmt: skip


def fill(path: Path, count: int = 8, **options: Any) -> str:
    """Write a log of that many answers and refusals; return its head."""
    with AuditLog(path, **options) as log:
        observer = Observer(log)
        for number in range(count):
            if number % 3 == 2:
                observer.refused(OWNER, code="busy", message="queue full \u2028 \x1b[2J \ud800")
            else:
                observer.answered(OWNER, **ANSWER, waited=number / 7)
        return log.head.head


def files_of(path: Path) -> list[Path]:
    return in_order([*path.parent.glob("audit*.jsonl")])


def test_a_record_says_who_asked_what_and_what_was_revealed(tmp_path: Path) -> None:
    path = tmp_path / "state" / "audit.jsonl"
    head = fill(path, 3)
    lines = path.read_bytes().splitlines()
    first, second, third = map(json.loads, lines)
    assert first["owner"] == OWNER
    assert first["facts"] == ANSWER | {"waited": 0.0}
    assert first["prev"] == "0" * 64
    assert second["prev"] == hashlib.sha256(lines[0]).hexdigest(), "any tool can check the chain"
    assert third["facts"]["code"] == "busy"
    assert head == hashlib.sha256(lines[2]).hexdigest()
    assert [first["sequence"], second["sequence"], third["sequence"]] == [1, 2, 3]
    summary = AuditLog.verify(path)
    assert (summary.records, summary.images, summary.head) == (3, 4, head)


def test_only_its_user_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "audit.jsonl"
    fill(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o640)
    with pytest.raises(AuditError, match=r"readable by others \(mode 640\): run chmod 600"):
        AuditLog(path)
    path.chmod(0o600)
    link = tmp_path / "link.jsonl"
    link.symlink_to(path)
    with pytest.raises(AuditError, match="cannot be opened"):
        AuditLog(link)


# ------------------------------------------------------------------------------------------------------------ tampering


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    path = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    head = fill(path)
    return path.read_bytes(), head


@st.composite
def tamperings(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """One of: a bit flipped, bytes put in, records dropped, swapped or doubled, the end cut off."""
    kind = draw(st.sampled_from(["flip", "insert", "drop", "swap", "double", "cut"]))
    where, bit, other = draw(st.floats(0, 1, exclude_max=True)), draw(st.integers(0, 7)), draw(st.integers(1, 7))
    more = draw(st.binary(min_size=1, max_size=4))

    def change(data: bytes) -> bytes:
        at = int(where * len(data))
        lines = data.splitlines(keepends=True)
        line = int(where * len(lines))
        match kind:
            case "flip":
                return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            case "insert":
                return data[:at] + more + data[at:]
            case "drop":
                del lines[line : line + (other + 1) // 2]
            case "swap":
                second = (line + other) % len(lines)
                lines[line], lines[second] = lines[second], lines[line]
            case "double":
                lines.insert(line, lines[line])
            case "cut":
                return data[:at]
        return b"".join(lines)

    return change


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tamperings())
def test_every_change_is_found_by_whoever_kept_the_head(
    written: tuple[bytes, str], tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    data, head = written
    path = tmp_path / "audit.jsonl"
    path.write_bytes(data)
    assert AuditLog.verify(path, expect=head).expected == 8
    path.write_bytes(change(data))
    with pytest.raises(AuditError):
        AuditLog.verify(path, expect=head)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tamperings())
def test_a_server_does_not_go_on_with_a_log_that_was_changed_before_its_last_record(
    written: tuple[bytes, str], tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    data, _ = written
    changed = change(data)
    directory = tmp_path / hashlib.sha256(changed).hexdigest()[:16]
    directory.mkdir(exist_ok=True)
    path = directory / "audit.jsonl"
    path.write_bytes(changed)
    path.chmod(0o600)
    begin_of_last = data[:-1].rindex(b"\n") + 1
    if data.startswith(changed) or changed[:begin_of_last] == data[:begin_of_last]:
        return  # its end was cut off, or only the last record changed: the chain alone cannot know, the test above does
    with pytest.raises(AuditError, match=r"line \d+.* move all files of this audit log away"):
        AuditLog(path)
    assert path.read_bytes() == changed, "evidence is left as it is"


def test_an_edited_record_is_named_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    fill(path)
    path.write_bytes(path.read_bytes().replace(b'"images":2', b'"images":1', 1))
    with pytest.raises(AuditError, match=rf"{path}, line 2, \(record 2\) names .* that one or this one was changed"):
        AuditLog.verify(path)


def test_a_head_that_was_noted_earlier_is_found_later(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    noted = fill(path, 3)
    fill(path, 4)
    assert AuditLog.verify(path, expect=noted.upper()).expected == 3
    with pytest.raises(AuditError, match=r"no record of .* has the expected hash"):
        AuditLog.verify(path, expect="1" * 64)


@pytest.mark.parametrize(
    "content",
    [b"x" * (300 << 10) + b"\n", b"{}\n", b"[]\n", b"\xff\xfe\n", b"\n", b'{"sequence":' + b"9" * 400 + b"}\n"],
)
def test_what_is_no_record_is_one_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(content)
    path.chmod(0o600)
    for attempt in (lambda: AuditLog.verify(path), lambda: AuditLog(path)):
        with pytest.raises(AuditError, match="line 1"):
            attempt()


def test_what_is_no_file_is_one_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "missing", tmp_path):
        with pytest.raises(AuditError, match="name the files of an audit log"):
            AuditLog.verify(path)


# -------------------------------------------------------------------------------------------------------------- crashes


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_torn_last_record_is_set_aside_and_told(
    written: tuple[bytes, str], tmp_path: Path, data: st.DataObject
) -> None:
    whole, _ = written
    begin_of_last = whole[:-1].rindex(b"\n") + 1
    at = data.draw(st.integers(begin_of_last + 1, len(whole) - 1))
    garbage = data.draw(st.sampled_from([b"", b"\0" * 100]))  # some file systems leave zeros behind
    directory = tmp_path / f"{at}-{len(garbage)}"
    directory.mkdir(exist_ok=True)
    path = directory / "audit.jsonl"
    for old in directory.iterdir():
        old.unlink()
    path.write_bytes(whole[:at] + garbage)
    path.chmod(0o600)
    assert AuditLog.verify(path).torn == at + len(garbage) - begin_of_last
    fill(path, 1)
    (aside,) = directory.glob("audit.jsonl.torn-*")
    torn = whole[begin_of_last:at] + garbage
    assert aside.read_bytes() == torn, "not a byte is lost"
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600
    records = list(read([path]))
    assert [record.event for record in records[-2:]] == ["torn", "answered"]
    assert records[-2].facts == {"file": aside.name, "bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()}


WRITER = """
import sys
from pathlib import Path
from protocols.operations import AuditLog
log = AuditLog(Path(sys.argv[1]), rotate=400_000)
facts = {f"fact{i}": "x" * 1000 for i in range(20)}
while True:
    print(log.record("answered", facts=facts, durable=True).sequence, flush=True)
"""


def test_a_process_killed_while_it_writes_leaves_a_log_that_opens_with_every_answer_in_it(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-P", "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        timer = threading.Timer(random.uniform(0.0, 0.1), process.kill)
        timer.start()
        acknowledged = [int(line) for line in process.stdout if line.endswith(b"\n")]
        assert process.wait(10) == -signal.SIGKILL
        process.stdout.close()
        with AuditLog(path) as log:
            assert log.head.sequence >= (acknowledged or [1])[-1], "an answer that had left is not in the log"
            log.record("checked", durable=True)
        files = files_of(path)
        assert AuditLog.verify(*files).first == 1


def test_what_the_disk_does_not_take_stops_the_answer_and_leaves_the_log_whole(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from protocols.operations import AuditError, AuditLog, Observer
path = Path(sys.argv[1])
log = AuditLog(path)
observer = Observer(log)
answer = dict(session="s", model="m", program="p", images=1, reveal="label", seconds=1.0)
observer.answered("owner", **answer)
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, resource.RLIM_INFINITY))  # no record fits
for attempt in range(3):
    try:
        observer.answered("owner", **answer)
    except AuditError as error:
        assert "no answer leaves without its record" in str(error), error
    else:
        sys.exit("an answer left without its record")
    observer.refused("owner", code="busy", message="m")  # does not raise: nothing leaves with it
    observer.event("stopping")
assert "cannot be written" in observer.trouble()
assert AuditLog.verify(path).records == 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
observer.answered("owner", **answer)  # room again: service again
assert observer.trouble() is None
log.close()
summary = AuditLog.verify(path)
assert (summary.records, summary.torn, summary.images) == (2, 0, 2), summary
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(tmp_path / "audit.jsonl")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("hand", ["delete", "move", "append", "cut", "replace"])
def test_a_log_that_another_hand_touches_stops_answers_for_good(tmp_path: Path, hand: str) -> None:
    path = tmp_path / "audit.jsonl"
    fill(path)
    with AuditLog(path) as log:
        observer = Observer(log)
        observer.answered(OWNER, **ANSWER)
        match hand:
            case "delete":
                path.unlink()
            case "move":
                path.rename(tmp_path / "elsewhere")
            case "append":
                with path.open("ab") as file:
                    file.write(b"{}\n")
            case "cut":
                os.truncate(path, 100)
            case "replace":
                copy = path.read_bytes()
                path.unlink()
                path.write_bytes(copy)
        for _ in range(2):
            with pytest.raises(AuditError, match=r"another hand|it is gone"):
                observer.answered(OWNER, **ANSWER)
        assert "restart" in str(observer.trouble())


def test_one_process_writes_a_log(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    script = (
        "import sys; from pathlib import Path; from protocols.operations import AuditLog; AuditLog(Path(sys.argv[1]))"
    )
    command = [sys.executable, "-P", "-c", script, str(path)]
    with AuditLog(path) as log:
        log.record("started")
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert "in use by another process" in done.stderr
        child = os.fork()
        if child == 0:  # a forked worker has the same descriptors, but not the right to use them
            try:
                log.record("stolen")
            except AuditError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        log.record("stopped")
    subprocess.run(command, check=True, timeout=60)
    assert AuditLog.verify(path).records == 2


def test_threads_share_the_chain(tmp_path: Path) -> None:
    path, receipts = tmp_path / "audit.jsonl", []
    with AuditLog(path, rotate=5000) as log:

        def write(number: int) -> None:
            for _ in range(40):
                facts = {"images": 1}
                receipts.append(log.record("answered", owner=str(number), facts=facts, durable=number % 2 == 0))

        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    files = files_of(path)
    records = list(read(files))
    assert len({receipt.sequence for receipt in receipts}) == len(receipts) == 320
    assert sum(record.event == "answered" for record in records) == 320
    heads = {record.sequence - 1: record.prev for record in records} | {
        records[-1].sequence: AuditLog.verify(*files).head
    }
    assert all(heads[receipt.sequence] == receipt.head for receipt in receipts)


# ------------------------------------------------------------------------------------------------------------- rotation


def test_full_files_are_set_apart_and_the_chain_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    head = fill(path, 40, rotate=2000)
    files = files_of(path)
    assert len(files) >= 5
    assert files[-1] == path
    assert files[0].name == "audit-000000000001.jsonl"
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 and file.stat().st_size < 3000 for file in files)
    assert AuditLog.verify(*files, expect=head).first == 1
    later = AuditLog.verify(*files[2:])
    assert later.first > 1, "without the first files, what they hold is not claimed to be checked"
    assert next(iter(read(files[1:2]))).event == "continued"
    with pytest.raises(AuditError, match="a file is missing"):
        AuditLog.verify(files[0], *files[2:])
    for file in files[:-2]:  # moved to an archive, as an operator may
        file.unlink()
    fill(path, 1)
    assert AuditLog.verify(*files[-2:]).head != head


def test_a_crash_between_two_files_is_gone_on_from(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    fill(path, 5)
    path.rename(tmp_path / "audit-000000000001.jsonl")  # the next file was not made yet
    fill(path, 2)
    assert next(record.event for record in read([path])) == "continued"
    summary = AuditLog.verify(*files_of(path))
    assert (summary.first, summary.last) == (1, 8)


def test_a_file_that_does_not_follow_the_newest_full_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    fill(path, 5)
    path.rename(tmp_path / "audit-000000000001.jsonl")
    fill(tmp_path / "other.jsonl", 9)
    (tmp_path / "other.jsonl").rename(path)
    with pytest.raises(AuditError, match=r"line 1, is record 1, expected 6"):
        AuditLog(path)
    path.unlink()
    os.truncate(tmp_path / "audit-000000000001.jsonl", 700)
    with pytest.raises(AuditError, match="does not end with a whole record"):
        AuditLog(path)


def test_a_name_that_is_taken_is_never_written_over(tmp_path: Path) -> None:
    path, taken = tmp_path / "audit.jsonl", tmp_path / "audit-000000000001.jsonl"
    with AuditLog(path, rotate=1000) as log:
        log.record("started")
        taken.write_bytes(b"evidence")
        for _ in range(20):
            log.record("answered", durable=True)
    assert taken.read_bytes() == b"evidence"
    assert AuditLog.verify(path).records == 21


# ------------------------------------------------------------------------------------------------------------- observer


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(max_size=80),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary()),
        max_size=30,
    )
)
def test_whatever_is_recorded_can_be_read_back(tmp_path: Path, facts: dict[str, Any]) -> None:
    path = tmp_path / "audit.jsonl"
    with AuditLog(path) as log:
        Observer(log).event("anything", **facts)
    with AuditLog(path) as log:
        assert log.head.head == AuditLog.verify(path).head


def test_owners_that_get_no_answer_cannot_fill_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with AuditLog(path) as log:
        observer = Observer(log)
        for _ in range(5000):
            observer.refused(OWNER, code="busy", message="too many requests")
        observer.refused("another", code="busy", message="not affected")
        observer.answered(OWNER, **ANSWER)
    records = list(read([path]))
    refusals = sum(record.event == "refused" and record.owner == OWNER for record in records)
    assert 600 <= refusals < 700
    assert records[-2].owner == "another"
    assert records[-1].facts["omitted"] == 5000 - refusals, "what is left out is counted"


def test_an_allowance_grows_back() -> None:
    now = 0.0
    allowance = Allowance(burst=3, per_minute=60, clock=lambda: now)
    assert [allowance.take("a") for _ in range(5)] == [True] * 3 + [False] * 2
    assert allowance.take("b")
    assert (allowance.settle("a"), allowance.settle("a"), allowance.settle("b")) == (2, 0, 0)
    now = 2.0
    assert [allowance.take("a") for _ in range(3)] == [True, True, False]
    for number in range(10_000):
        allowance.take(str(number))
    assert len(allowance._accounts) <= 4096


# --------------------------------------------------------------------------------------------------------- command line


def test_the_command_checks_a_log(tmp_path: Path, command: Any) -> None:
    path = tmp_path / "audit.jsonl"
    noted = fill(path, 10, rotate=1500)
    head = fill(path, 5, rotate=1500)
    files = sorted(tmp_path.glob("audit*.jsonl"), reverse=True)
    assert len(files) > 2
    told = command.json("audit", "verify", *files, "--expect", noted)
    assert told["head"] == head
    assert told["first"] == 1
    assert told["expected"] < told["last"] == told["records"]
    text = command.run("audit", "verify", *files).stdout
    assert head in text
    files[1].write_bytes(files[1].read_bytes().replace(b"label", b"score", 1))
    assert "was changed" in " ".join(command.run("audit", "verify", *files, status=2).stderr.split())
    assert "is no SHA-256" in command.run("audit", "verify", *files, "--expect", "abc", status=2).stderr


def test_the_command_shows_records(tmp_path: Path, command: Any) -> None:
    path = tmp_path / "audit.jsonl"
    fill(path, 6)
    with AuditLog(path) as log:
        Observer(log).answered("ef" * 32, **ANSWER)
    mine = command.json("audit", "show", path, "--owner", OWNER[:8], "--last", "3")["records"]
    assert [record["sequence"] for record in mine] == [4, 5, 6]
    shown = command.run("audit", "show", path).stdout
    assert "\x1b" not in shown, "an owner's text does not reach the terminal's controls"
    assert "efefefefefef" in shown
    path.write_bytes(path.read_bytes().replace(b'"waited":0.5714', b'"waited":0.5715', 1))
    broken = command.run("audit", "show", path, status=2)
    assert "was changed" in " ".join(broken.stderr.split())
    assert "busy" in broken.stdout, "what stands before the break is shown"
