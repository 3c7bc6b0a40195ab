"""`secureimg pki`: the deployment's own certificate authority."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from cryptography.x509 import Certificate
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from protocols.cli.console import err, out, write_json
from protocols.cli.options import Json
from protocols.pki import ROLES, Authority, Bundle, replace_authorities
from protocols.pki.authority import AUTHORITY_DAYS, LEAF_DAYS, PUBLIC_FILE
from protocols.pki.bundles import fingerprint_of, load_authorities, subject_of
from secureimg.errors import KeyMaterialError, SecureImgError

__all__ = ["app"]

app = typer.Typer(
    help="Make, check and replace the certificates of a deployment.", no_args_is_help=True, rich_markup_mode=None
)

_SOON = 30

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The authority's directory.")]
LeafDays = Annotated[int, typer.Option(min=1, metavar="DAYS", help="How long the certificates are valid; at most 825.")]


class Algorithm(StrEnum):
    """What keys are made for. Browsers take p256 only."""

    P256 = "p256"
    ED25519 = "ed25519"


@app.command("init")
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to make it; must hold none yet.")],
    algorithm: Annotated[
        Algorithm, typer.Option(help="Keys of the authority and of all it signs. Browsers take p256 only.")
    ] = Algorithm.P256,
    days: Annotated[int, typer.Option(min=1, metavar="DAYS", help="How long it is valid.")] = AUTHORITY_DAYS,
    as_json: Json = False,
) -> None:
    """Make a certificate authority. Whoever has its `ca.key` can play any role: keep DIR on a machine that serves nobody."""
    authority = Authority.create(directory, algorithm=algorithm.value, days=days)
    _tell_authority("made", authority, as_json=as_json)


@app.command("issue")
def issue(
    directory: Directory,
    roles: Annotated[list[str], typer.Argument(metavar="ROLE...", help=f"Any of {', '.join(ROLES)}.")],
    name: Annotated[
        str | None, typer.Option(help="What the certificate calls its holder. Default: the role.", metavar="NAME")
    ] = None,
    hosts: Annotated[
        list[str] | None,
        typer.Option("--host", metavar="HOST", help="Name or address under which browsers reach it. Repeatable."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.pem", help="Default: DIR/NAME.pem, or DIR/ROLE.pem.")
    ] = None,
    days: LeafDays = LEAF_DAYS,
    as_json: Json = False,
) -> None:
    """Make a bundle for each ROLE: private key, certificate and the authority's certificate in one file.

    Take each file to its machine, or its owner, over a safe channel, and delete it here.
    """
    if len(roles) > 1 and (name is not None or output is not None):
        raise SecureImgError(f"--name and --out are for one role, not for {len(roles)}: call `issue` for each")
    if name is not None and output is None and (Path(name).name != name or name.startswith(".") or name == "ca"):
        raise SecureImgError(f"{name!r} cannot name a file in {directory}: give --out FILE.pem as well")
    authority = Authority.open(directory)
    made = []
    for role in roles:
        path = output or directory / f"{name or role}.pem"
        made.append(Bundle.load(authority.issue(role, name or role, path, hosts=hosts or (), days=days)))
    if as_json:
        write_json({"bundles": [_facts(bundle) for bundle in made]})
        return
    for bundle in made:
        out.print(f"{bundle.path}: {bundle.role}, SHA-256 {bundle.fingerprint}", soft_wrap=True, markup=False)
    err.print("each holds a private key: hand it over by a safe channel only", soft_wrap=True)


@app.command("check")
def check(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE|DIR...", help="Bundles, or directories of them.")],
    as_json: Json = False,
) -> None:
    """Tell who each bundle is for, until when, and its fingerprint. Exit status 2 if one is wrong or ends within 30 days."""
    rows = [_look(path) for path in _files(paths)]
    if not rows:
        raise SecureImgError(f"no .pem file in {', '.join(map(str, paths))}: make one with `secureimg pki issue`")
    troubles = [row.trouble for row in rows if row.trouble]
    if as_json:
        write_json({"files": [row.facts() for row in rows], "ok": not troubles})
    else:
        table = _table(rows)
        whole = Measurement.get(out, out.options.update(max_width=1000), table).maximum
        Console(width=whole, highlight=False).print(table)  # a fingerprint in pieces cannot be copied
        for trouble in troubles:
            err.print(trouble, soft_wrap=True, markup=False)
    if troubles:
        raise typer.Exit(2)


@app.command("rotate")
def rotate(
    directory: Directory,
    which: Annotated[
        list[str] | None, typer.Argument(metavar="[ROLE|FILE...]", help="Default: all bundles in DIR.")
    ] = None,
    authority: Annotated[
        bool, typer.Option("--authority", help="Make a new authority; bundles then trust both. See below.")
    ] = False,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="End the overlap: bundles trust the new authority alone.")
    ] = False,
    days: LeafDays = LEAF_DAYS,
    as_json: Json = False,
) -> None:
    """Replace certificates and keys. Role, name and hosts stay; the file before is kept as FILE.old-DATE.

    A new authority takes four steps, and nothing stops working: `rotate DIR --authority`, and give every machine its
    bundle, or `ca.pem` for `pki trust`; `rotate DIR`, and give every machine its bundle; `rotate DIR --drop-old`, and the
    same again; delete `ca.key.old-DATE`. Running services read their bundle anew on SIGHUP.
    """
    if (authority and drop_old) or (which and (authority or drop_old)):
        raise SecureImgError("--authority and --drop-old go alone: they concern all bundles in the directory")
    opened = Authority.open(directory)
    if authority or drop_old:
        before = opened.bundles()
        opened = opened.rotate_authority() if authority else opened.drop_old()
        updated = [opened.update(bundle.path) for bundle in before]
        _tell_authority("trusted now", opened, updated, as_json=as_json)
        return
    rotated = []
    for path in _chosen(opened, which):
        kept = opened.rotate(path, days=days)
        rotated.append((Bundle.load(path), kept))
    if not rotated:
        raise SecureImgError(f"{directory} holds no bundle: name the files to rotate")
    if as_json:
        write_json({"bundles": [{**_facts(bundle), "kept": str(kept)} for bundle, kept in rotated]})
        return
    for bundle, kept in rotated:
        text = f"{bundle.path}: {bundle.role}, SHA-256 {bundle.fingerprint}; before: {kept}"
        out.print(text, soft_wrap=True, markup=False)
    err.print("take each to its machine; where the old fingerprint is pinned, pin the new one first", soft_wrap=True)


@app.command("trust")
def trust(
    authorities: Annotated[
        Path, typer.Argument(metavar="ca.pem", help="The authorities to trust, from who runs them, by a safe channel.")
    ],
    bundles: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Bundles on this machine.")],
    as_json: Json = False,
) -> None:
    """Make bundles trust the authorities in ca.pem and no others, without new keys: for machines that have no authority."""
    given = load_authorities(authorities)
    done = [replace_authorities(path, given) for path in bundles]
    if as_json:
        write_json({"authorities": [_authority_facts(one) for one in given], "bundles": [_facts(one) for one in done]})
        return
    for bundle in done:
        names = ", ".join(subject_of(one) for one in given)
        out.print(f"{bundle.path}: trusts {names}", soft_wrap=True, markup=False)


@dataclass(frozen=True)
class _Row:
    path: Path
    role: str = ""
    subject: str = ""
    fingerprint: str = ""
    expires: datetime.datetime | None = None
    trouble: str = ""

    @property
    def days_left(self) -> int | None:
        return None if self.expires is None else (self.expires - datetime.datetime.now(datetime.UTC)).days

    def facts(self) -> dict[str, object]:
        return {
            "file": str(self.path), "role": self.role, "subject": self.subject, "fingerprint": self.fingerprint,
            "expires": None if self.expires is None else self.expires.isoformat(), "days_left": self.days_left,
            "trouble": self.trouble or None,
        }  # fmt: skip


def _look(path: Path) -> _Row:
    trouble = ""
    try:
        if path.name == PUBLIC_FILE:
            first = load_authorities(path)[0]
            row = _Row(path, "authority", subject_of(first), fingerprint_of(first), first.not_valid_after_utc)
            remedy = "make a new authority with `secureimg pki rotate DIR --authority`"
        else:
            bundle = Bundle.load(path, any_time=True)
            trouble = _time_trouble(bundle)
            row = _Row(path, bundle.role, bundle.subject, bundle.fingerprint, bundle.not_after)
            remedy = f"replace it with `secureimg pki rotate DIR {path.name}` on the authority's machine"
    except KeyMaterialError as error:
        return _Row(path, trouble=str(error))
    if row.expires is not None and row.days_left is not None and row.days_left < _SOON:
        verb = "expired" if row.days_left < 0 else "expires"
        trouble = f"{path} ({row.role}, subject {row.subject}) {verb} on {row.expires:%Y-%m-%d}: {remedy}"
    return dataclasses.replace(row, trouble=trouble)


def _time_trouble(bundle: Bundle) -> str:
    """What `check_time` has against it: not valid yet, or its authority's expiry."""
    try:
        bundle.check_time()
    except KeyMaterialError as error:
        return str(error)
    return ""


def _files(paths: Iterable[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        found += sorted(path.glob("*.pem")) if path.is_dir() else [path]
    return found


def _chosen(authority: Authority, which: list[str] | None) -> list[Path]:
    """The bundles that are meant: a role means those of its kind in the directory, all else is a file."""
    if not which:
        return [bundle.path for bundle in authority.bundles()]
    chosen: list[Path] = []
    for word in which:
        if word not in ROLES:
            inside = authority.directory / word
            chosen.append(inside if Path(word).name == word and inside.exists() else Path(word))
            continue
        found = [bundle.path for bundle in authority.bundles() if bundle.role == word]
        if not found:
            raise SecureImgError(f"{authority.directory} holds no bundle of role {word}: name its file")
        chosen += found
    return list(dict.fromkeys(chosen))


def _table(rows: list[_Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("file", "role", "subject", "expires", "days left", "SHA-256"):
        table.add_column(title, overflow="fold", justify="right" if title == "days left" else "left")
    for row in rows:
        expires = "" if row.expires is None else f"{row.expires:%Y-%m-%d}"
        left = "" if row.days_left is None else str(row.days_left)
        cells = (str(row.path), row.role or "?", row.subject, expires, left, row.fingerprint)
        table.add_row(*(escape(cell) for cell in cells), style="red" if row.trouble else None)
    return table


def _facts(bundle: Bundle) -> dict[str, object]:
    return {
        "file": str(bundle.path), "role": bundle.role, "subject": bundle.subject, "fingerprint": bundle.fingerprint,
        "expires": bundle.not_after.isoformat(), "days_left": bundle.days_left, "hosts": list(bundle.hosts),
    }  # fmt: skip


def _authority_facts(certificate: Certificate) -> dict[str, object]:
    return {
        "subject": subject_of(certificate),
        "fingerprint": fingerprint_of(certificate),
        "expires": certificate.not_valid_after_utc.isoformat(),
    }


def _tell_authority(verb: str, authority: Authority, updated: Iterable[Bundle] = (), *, as_json: bool) -> None:
    if as_json:
        trusted = [_authority_facts(one) for one in authority.trusted]
        bundles = [str(bundle.path) for bundle in updated]
        write_json({"directory": str(authority.directory), "authorities": trusted, "bundles": bundles})
        return
    for one in authority.trusted:
        text = f"{verb}: {subject_of(one)}, until {one.not_valid_after_utc:%Y-%m-%d}, SHA-256 {fingerprint_of(one)}"
        out.print(text, soft_wrap=True, markup=False)
    for bundle in updated:
        out.print(f"{bundle.path}: updated", soft_wrap=True, markup=False)
