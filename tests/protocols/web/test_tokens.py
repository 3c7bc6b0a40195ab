"""Owner tokens: what each party knows of them, when they count, and what their files may be."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from protocols.cli import tokens as command
from protocols.web.tokens import (
    ROLES,
    TokenError,
    TokenFile,
    add_entry,
    make_entry,
    new_secret,
    owner_id,
    read_entries,
    remove_entries,
    shown_to,
)
from secureimg.errors import KeyMaterialError

LATER = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)


def run(*words: str | Path, status: int = 0) -> dict[str, Any]:
    done = CliRunner().invoke(command.app, [*map(str, words), "--json"])
    assert done.exit_code == status, done.output
    return json.loads(done.stdout)


def test_each_process_is_shown_another_value_and_all_know_the_same_owner() -> None:
    secret = new_secret()
    assert len(secret) == 43  # 256 bits
    assert len({shown_to(role, secret) for role in ROLES} | {owner_id(secret)}) == 4
    entries = [make_entry(role, "owner", secret, LATER) for role in ROLES]
    assert len({entry.id for entry in entries}) == 1
    assert len({entry.digest for entry in entries}) == 3


def test_what_is_shown_is_what_the_page_and_curl_compute() -> None:
    assert shown_to("party0", "abc") == hashlib.sha256(b"secureimg token party0 abc").hexdigest()


def test_a_file_holds_nothing_that_could_be_shown(tmp_path: Path) -> None:
    made = run("new", "alice", "--out-dir", tmp_path)
    texts = [path.read_text() for path in tmp_path.iterdir()]
    assert len(texts) == 2
    for text in texts:
        assert made["token"] not in text
        assert made["owner"] in text
        assert not any(shown in text for shown in made["bearer"].values())
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())


def test_a_token_counts_at_its_party_only(tmp_path: Path) -> None:
    made = run("new", "alice", "--out-dir", tmp_path)
    zero, one = (TokenFile(tmp_path / f"tokens-{role}.toml") for role in ("party0", "party1"))
    assert zero.check(made["bearer"]["party0"]).id == one.check(made["bearer"]["party1"]).id == made["owner"]
    for file, shown in ((zero, made["bearer"]["party1"]), (one, made["bearer"]["party0"]), (zero, made["token"])):
        with pytest.raises(TokenError):
            file.check(shown)


def test_a_token_ends_with_its_last_day(tmp_path: Path) -> None:
    secret, path = new_secret(), tmp_path / "tokens.toml"
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)
    add_entry(path, make_entry("party0", "owner", secret, past))
    with pytest.raises(TokenError, match="expired on"):
        TokenFile(path).check(shown_to("party0", secret))


def test_a_running_process_notices_new_and_revoked_tokens(tmp_path: Path) -> None:
    run("new", "alice", "--out-dir", tmp_path)
    file = TokenFile(tmp_path / "tokens-party0.toml")
    made = run("new", "bob", "--out-dir", tmp_path)
    assert file.check(made["bearer"]["party0"]).name == "bob"
    assert len(run("revoke", "bob", "--dir", tmp_path)["files"]) == 2
    with pytest.raises(TokenError):
        file.check(made["bearer"]["party0"])


def test_the_command_lists_and_refuses_a_name_that_is_taken(tmp_path: Path) -> None:
    run("new", "alice", "--out-dir", tmp_path, "--days", "3")
    owners = run("list", "--dir", tmp_path)["owners"]
    assert [owner["name"] for owner in owners["party1"]] == ["alice"]
    assert not owners["party1"][0]["expired"]
    before = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    done = CliRunner().invoke(command.app, ["new", "alice", "--out-dir", str(tmp_path)])
    assert isinstance(done.exception, KeyMaterialError)
    assert "revoke that token first" in str(done.exception)
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == before
    done = CliRunner().invoke(command.app, ["revoke", "eve", "--dir", str(tmp_path)])
    assert "no owner 'eve'" in str(done.exception)


def test_the_token_is_printed_alone_so_that_it_can_be_piped(tmp_path: Path) -> None:
    done = CliRunner().invoke(command.app, ["new", "alice", "--out-dir", str(tmp_path), "--for", "server"])
    secret = done.stdout.splitlines()[0]
    file = TokenFile(tmp_path / "tokens-server.toml")
    assert file.check(shown_to("server", secret.strip())).name == "alice"


@pytest.mark.parametrize("name", ["", " a", 'a"b', "a\nb", "x" * 65, "ä", "-a"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(KeyMaterialError, match="not an owner's name"):
        make_entry("party0", name, new_secret(), LATER)


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    add_entry(path, make_entry("party0", "owner", new_secret(), LATER))
    path.chmod(0o640)
    with pytest.raises(KeyMaterialError, match="readable by others"):
        TokenFile(path)


def test_entries_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    entries = [make_entry("party1", f"owner {n}", new_secret(), LATER) for n in range(3)]
    for entry in entries:
        add_entry(path, entry)
    assert list(read_entries(path)) == entries
    assert remove_entries(path, ["owner 1", "nobody"]) == (entries[1],)
    assert list(read_entries(path)) == [entries[0], entries[2]]


GOOD = f'[[owner]]\nname = "a"\nid = "{"0" * 64}"\ndigest = "{"1" * 64}"\nexpires = 2100-01-01T00:00:00Z\n'


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("Z\n", "\n"),
        GOOD + GOOD,
        GOOD.replace("0" * 64, "0" * 63),
        GOOD.replace("digest", "secret"),
        GOOD + "more = 1\n",
        "owner = 3",
        "a = [" * 2000,
    ],
)
def test_what_is_no_token_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(KeyMaterialError):
        read_entries(path)


@settings(max_examples=200, deadline=None)
@given(data=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace"))))
def test_any_file_is_entries_or_one_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(descriptor, data)
    os.close(descriptor)
    try:
        read_entries(path)
    except KeyMaterialError as error:
        said = str(error)
    else:
        return
    assert str(path) in said
