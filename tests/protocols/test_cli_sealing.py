"""`secureimg keypair`, `seal` and `open`: one round as processes, the rest in this one."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from protocols.cli.app import app
from protocols.cli.appearing import appearing
from secureimg.errors import SecureImgError
from secureimg.publishing import RecipientKey, encode_cipher_png, encrypt_thumbnail, load_recipient, save_key, seal
from secureimg.publishing.split import split_jpeg


class InProcess:
    """The command's own words, without a process for each."""

    def run(self, *words: str | Path) -> str:
        result = CliRunner().invoke(app, [str(word) for word in words])
        if result.exception is not None:
            raise result.exception
        return result.output

    def json(self, *words: str | Path) -> dict[str, Any]:
        return json.loads(self.run(*words, "--json"))

    def refused(self, *words: str | Path) -> str:
        """The sentence with which the command refuses."""
        with pytest.raises(SecureImgError) as caught:
            self.run(*words)
        return str(caught.value)


@pytest.fixture(scope="module")
def here() -> InProcess:
    return InProcess()


@pytest.fixture(scope="module")
def keys(here: InProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    told = here.json("keypair", "alice", "--out", folder)
    assert told["fingerprint"] == load_recipient(folder / "alice.pub").fingerprint
    save_key(folder / "mallory.key", RecipientKey.generate("mallory"))
    return folder


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    rows, columns, channel = np.mgrid[:64, :80, :3]
    return (128 + 90 * np.sin(rows / 9 + channel) * np.cos(columns / 7)).astype(np.uint8)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory, picture: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("photos") / "clinic visit.jpg"
    notes = Image.Exif()
    notes[0x010E] = "where it was taken"
    Image.fromarray(picture).save(path, exif=notes, quality=90)
    return path


def test_a_photograph_is_sealed_and_opened_byte_for_byte(command: Any, keys: Path, photo: Path, tmp_path: Path) -> None:
    sealed, opened = tmp_path / "a.sealed", tmp_path / "again.jpg"
    told = command.json("seal", photo, "--to", keys / "alice.pub", "--out", sealed)
    assert told["recipients"][0]["name"] == "alice"
    assert told["guarantee"]["kind"] == "encryption"
    for word in (b"clinic", b"taken", b"alice", b"jpeg"):
        assert word not in sealed.read_bytes()
    wrong = command.run("open", sealed, "--key", keys / "mallory.key", "--out", opened, status=2)
    assert len(wrong.stderr.strip().splitlines()) == 1
    report = command.json("open", sealed, "--key", keys / "alice.key", "--out", opened)
    assert (report["kind"], report["name"], report["media_type"]) == ("photo", "clinic visit.jpg", "image/jpeg")
    assert opened.read_bytes() == photo.read_bytes()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (sealed, opened, keys / "alice.key")} == {0o600}


def test_several_files_are_sealed_under_names_that_tell_nothing(
    here: InProcess, keys: Path, photo: Path, tmp_path: Path
) -> None:
    other = tmp_path / "scan.png"
    other.write_bytes(b"another file")
    here.run("keypair", "bob", "--kind", "x25519", "--out", tmp_path)
    (tmp_path / "sealed").mkdir()
    both = "--to", keys / "alice.pub", "--to", tmp_path / "bob.pub"
    shown = here.run("seal", photo, other, *both, "--pad", "--out", tmp_path / "sealed")
    assert "bob, fingerprint" in shown
    assert sorted(path.name for path in (tmp_path / "sealed").iterdir()) == ["0001.sealed", "0002.sealed"]
    here.run("open", tmp_path / "sealed" / "0002.sealed", "--key", tmp_path / "bob.key", "--out", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"another file"


def test_a_key_with_a_passphrase_opens_with_it(here: InProcess, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "phrase").write_text("correct horse\n")
    phrase = "--passphrase-file", tmp_path / "phrase"
    here.run("keypair", "dora", "--kind", "x25519", "--out", tmp_path, *phrase)
    here.run("seal", photo, "--to", tmp_path / "dora.pub", "--out", tmp_path / "s")
    opening = "open", tmp_path / "s", "--key", tmp_path / "dora.key", "--out", tmp_path / "o.jpg"
    assert "give its passphrase" in here.refused(*opening)
    here.run(*opening, *phrase)
    assert (tmp_path / "o.jpg").read_bytes() == photo.read_bytes()


def test_what_cannot_be_opened_is_said_in_one_sentence_and_leaves_no_file(
    here: InProcess, keys: Path, photo: Path, tmp_path: Path
) -> None:
    good = seal(photo.read_bytes() * 40, [load_recipient(keys / "alice.pub")], "photo", name="x.jpg")
    cases = {
        "not sealed for mallory": (good, "mallory"),
        "not authentic": (good[:-9] + bytes([good[-9] ^ 1]) + good[-8:], "alice"),
        "not authentic: it was changed, cut": (good[:2000], "alice"),
        "ends within its header": (good[:600], "alice"),
        "not a sealed image": (photo.read_bytes(), "alice"),
    }
    for words, (data, name) in cases.items():
        (tmp_path / "in").write_bytes(data)
        said = here.refused("open", tmp_path / "in", "--key", keys / f"{name}.key", "--out", tmp_path / "out")
        assert words in said
        assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_the_ticket_of_a_cipher_image_gives_the_picture(
    here: InProcess, keys: Path, picture: np.ndarray, tmp_path: Path
) -> None:
    cipher, ticket = encrypt_thumbnail(picture, 16)
    (tmp_path / "c.png").write_bytes(encode_cipher_png(cipher))
    sealed = tmp_path / "c.sealed"
    sealed.write_bytes(seal(ticket.to_bytes(), [load_recipient(keys / "alice.pub")], "thumbnail"))
    opening = "open", sealed, "--key", keys / "alice.key", "--out", tmp_path / "o.png"
    assert "add --public with its cipher image" in here.refused(*opening)
    assert here.json(*opening, "--public", tmp_path / "c.png")["kind"] == "thumbnail"
    assert np.array_equal(np.asarray(Image.open(tmp_path / "o.png")), picture)


def test_the_secret_part_of_a_split_photograph_gives_it_back(
    here: InProcess, keys: Path, photo: Path, tmp_path: Path
) -> None:
    parts = split_jpeg(photo.read_bytes())
    (tmp_path / "p.jpg").write_bytes(parts.public)
    sealed = tmp_path / "p.sealed"
    sealed.write_bytes(seal(parts.secret, [load_recipient(keys / "alice.pub")], "split"))
    opening = "open", sealed, "--key", keys / "alice.key"
    here.run(*opening, "--public", tmp_path / "p.jpg", "--out", tmp_path / "o.jpg")
    assert (tmp_path / "o.jpg").read_bytes() == photo.read_bytes()
    Image.open(tmp_path / "p.jpg").save(tmp_path / "host.jpg", quality=80)
    changed = *opening, "--public", tmp_path / "host.jpg", "--out", tmp_path / "h.png"
    assert "--changed" in here.refused(*changed)
    here.run(*changed, "--changed")
    found, original = (np.asarray(Image.open(path).convert("RGB"), float) for path in (tmp_path / "h.png", photo))
    assert np.abs(found - original).mean() < 8


def test_nothing_is_written_over(here: InProcess, keys: Path, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"old")
    assert "not overwritten" in here.refused("keypair", "alice", "--out", keys)
    sealing = "seal", photo, "--to", keys / "alice.pub", "--out", tmp_path / "there"
    assert "not overwritten" in here.refused(*sealing)
    assert (tmp_path / "there").read_bytes() == b"old"


def test_an_output_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out.jpg"

    def write(fails: bool) -> None:
        with appearing(target) as fresh:
            fresh.write_bytes(b"mine")
            if fails:
                raise ValueError
            target.write_bytes(b"another's, meanwhile")

    with pytest.raises(ValueError):
        write(fails=True)
    assert not list(tmp_path.iterdir())
    with pytest.raises(SecureImgError, match="not overwritten"):
        write(fails=False)
    assert target.read_bytes() == b"another's, meanwhile"
    assert len(list(tmp_path.iterdir())) == 1
