"""An examination of a process before it serves, or while it does: what is wrong, and what to do about it."""

from __future__ import annotations

import fcntl
import os
import platform
import resource
import shutil
import ssl
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from protocols.deployment.config import ConfigError, load
from protocols.deployment.findings import Finding, Verdict, fine, warning, wrong
from protocols.deployment.models import Compiled, compile_model
from protocols.deployment.network import ask_program, examine_peers, examine_ports
from protocols.deployment.processes import AUDIT_FILE
from protocols.deployment.roles import own_bundle
from protocols.deployment.settings import PARTIES, Config
from protocols.errors import RefusedError
from protocols.operations.audit_reading import in_order, verify
from protocols.pki import Bundle
from protocols.web import web_context
from protocols.web.tokens import read_entries
from secureimg import ckks, sharing
from secureimg.errors import SecureImgError
from secureimg.federated import Terms, check_program
from secureimg.sharing import CorrelationStore

__all__ = ["examine", "passed"]

_SOON: Final = 30
_LEAST_DISK: Final = 64 << 20
_LITTLE_DISK: Final = 1 << 30
_FILES_A_CONNECTION: Final = 4
_OTHER_FILES: Final = 64
_PACKAGES: Final = ("secureimg", "cryptography", "msgspec", "numba", "numpy", "tenseal")


def examine(path: Path, overrides: Sequence[str] = ()) -> Iterator[Finding]:
    """Check all that one process of a deployment needs.

    It may be running, or not. Nothing is changed; the stock is opened for a moment if no process has it.

    Parameters
    ----------
    path : Path
        The process's file.
    overrides : sequence of str
        See `load`.
    """
    yield _versions()
    try:
        config = load(path, overrides)
    except ConfigError as error:
        yield wrong("configuration", str(error))
        return
    yield fine("configuration", f"{path}: {config.role}")
    bundle, finding = _identity(config)
    yield finding
    yield from _web(config)
    try:
        yield from _state(config)
    except OSError as error:
        yield wrong(
            "state", f"{config.state} cannot be looked into ({error.strerror})", "give it to this process's user"
        )
    yield from examine_ports(config, bundle)
    peers = list(examine_peers(config, bundle))
    yield from peers
    yield _descriptors(config)
    try:
        model = compile_model(config)
    except SecureImgError as error:
        yield wrong("model", str(error))
        return
    if model is not None:
        yield fine("model", f"{model.facts()['model']}, program {model.facts()['program'][:16]}, {_cost(model)}")
        yield _memory(config, model)
    own = None if model is None else model.program.public.fingerprint
    if config.aggregation is not None:
        terms = config.aggregation.terms()
        own = check_program(terms).public.fingerprint
        yield fine("aggregation", f"{terms.parameters} parameters, terms {terms.fingerprint[:16]}, {_privacy(terms)}")
    if config.role == "party0" and bundle is not None and passed(peers):
        yield _program(config, bundle, own)


def passed(findings: Sequence[Finding]) -> bool:
    """Whether the process can serve: warnings do not count."""
    return all(finding.verdict is not Verdict.WRONG for finding in findings)


# ------------------------------------------------------------------------------------------------------------ software


def _versions() -> Finding:
    told = [f"{name} {_version(name)}" for name in _PACKAGES]
    found = f"Python {platform.python_version()}, {', '.join(told)}, {' '.join(ssl.OPENSSL_VERSION.split()[:2])}"
    if not ssl.HAS_TLSv1_3:
        return wrong("versions", found, "TLS 1.3 is needed: use a Python that is built with OpenSSL 1.1.1 or newer")
    if not (3, 11) <= sys.version_info[:2] < (3, 14):
        return warning("versions", found, "secureimg is tested with Python 3.11 to 3.13: use one of these")
    return fine("versions", found)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(version unknown)"


# ------------------------------------------------------------------------------------------------------------ identity


def _identity(config: Config) -> tuple[Bundle | None, Finding]:
    try:
        bundle = own_bundle(config)
    except SecureImgError as error:
        return None, wrong("certificate", str(error))
    found = f"{bundle}, SHA-256 {bundle.fingerprint}"
    if bundle.days_left < _SOON:
        remedy = f"it expires in {bundle.days_left} days: have it renewed by `secureimg pki rotate`"
        return bundle, warning("certificate", found, remedy)
    return bundle, fine("certificate", found)


def _web(config: Config) -> Iterator[Finding]:
    web = config.web
    if web is None:
        return
    try:
        tokens = read_entries(web.tokens)
    except SecureImgError as error:
        yield wrong("web tokens", str(error))
    else:
        found = f"{web.tokens}: {len(tokens)} owners"
        remedy = "nobody can ask: `secureimg token new` makes tokens"
        yield fine("web tokens", found) if tokens else warning("web tokens", found, remedy)
    if web.certificate is None or web.key is None:
        return
    try:
        web_context(web.certificate, web.key)
        mode = web.key.stat().st_mode & 0o777
    except (SecureImgError, OSError) as error:
        yield wrong("web certificate", str(error))
        return
    if mode & 0o077:
        yield wrong("web certificate", f"{web.key} is readable by others (mode {mode:o})", "run chmod 600 on it")
    else:
        yield fine("web certificate", str(web.certificate))


# --------------------------------------------------------------------------------------------------------------- state


def _state(config: Config) -> Iterator[Finding]:
    place = config.state
    existing = next(path for path in (place, *place.parents) if path.exists())
    if place.exists() and not place.is_dir():
        yield wrong("state", f"{place} is not a directory", "name another one in state")
        return
    if not os.access(existing, os.W_OK | os.X_OK):
        yield wrong("state", f"{existing} cannot be written by this user", "give it to the user that runs the process")
        return
    mode = place.stat().st_mode & 0o777 if place.exists() else 0o700
    if mode & 0o077:
        yield wrong("state", f"{place} is open to others (mode {mode:o})", "run chmod 700 on it")
        return
    free = shutil.disk_usage(existing).free
    found = f"{place}{'' if place.exists() else ' (not there yet: it will be made)'}, {_amount(free)} free"
    if free < _LEAST_DISK:
        yield wrong("state", found, "make room on that disk: no answer leaves without its audit record")
    elif free < _LITTLE_DISK:
        yield warning("state", found, "make room on that disk: correlations and the audit log need it")
    else:
        yield fine("state", found)
    yield from _audit(place)
    if config.role in PARTIES and (place / "correlations").is_dir():
        yield _stock(config)


def _audit(place: Path) -> Iterator[Finding]:
    files = [path for path in place.glob("audit*.log") if path.is_file()]
    if not files:
        return
    try:
        summary = verify(in_order(files))
    except SecureImgError as error:
        yield wrong(
            "audit log", str(error), "find out who changed it; then move the files elsewhere to begin a new log"
        )
        return
    yield fine("audit log", f"{summary.records} records, head {summary.head[:16]}")


def _stock(config: Config) -> Finding:
    if _held(config.state / f"{AUDIT_FILE}.lock"):
        return fine("stock", "in use by the running process: its metric secureimg_stock tells how much is left")
    try:
        with CorrelationStore(config.state / "correlations") as store:
            counts = store.counts()
    except SecureImgError as error:
        return wrong("stock", str(error))
    found = f"{counts['available']} to use, {counts['spent']} spent, {_amount(counts['bytes'])}"
    seed = config.state / "weights.seed"
    if config.role == "party1" and counts["available"] and not seed.exists():
        return wrong(
            "stock", f"{found}, but {seed} is gone", "remove the directory correlations: they are of no use now"
        )
    return fine("stock", found)


def _held(lock: Path) -> bool:
    """Whether a process holds a lock file."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


# ------------------------------------------------------------------------------------------------------------- machine


def _descriptors(config: Config) -> Finding:
    have = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    need = _FILES_A_CONNECTION * config.limits.connections + _OTHER_FILES
    found = f"{have} files may be open, {config.limits.connections} connections can need {need}"
    if have < need:
        return wrong("files", found, f"raise it (LimitNOFILE={need} or ulimit -n {need}), or lower limits.connections")
    return fine("files", found)


def _privacy(terms: Terms) -> str:
    if not terms.noise:
        return "no noise: the sum of a round is opened exactly"
    rounds = f"{terms.rounds} rounds" if terms.rounds else "any number of rounds: say aggregation.rounds"
    return f"noise multiplier {terms.noise:g} for {rounds}"


def _program(config: Config, bundle: Bundle, own: str | None) -> Finding:
    """What party 1 serves, and whether it is what party 0 has, if that has a program."""
    try:
        name, fingerprint = ask_program(config, bundle)
    except (SecureImgError, RefusedError) as error:
        return wrong("program", str(error))
    except OSError as error:
        return wrong("program", f"party 1 did not say which it runs ({error.strerror or type(error).__name__})",
                     "see its log")  # fmt: skip
    found = f"party 1 serves {name}, program {fingerprint[:16]}"
    if own is not None and own != fingerprint:
        section = "model" if config.aggregation is None else "aggregation"
        return wrong(
            "program",
            f"{found}; this party has program {own[:16]}",
            f"write the same section [{section}] into both files",
        )
    return fine("program", found)


def _memory(config: Config, model: Compiled) -> Finding:
    program = model.program
    if isinstance(program, sharing.Program):
        cost, images = sharing.cost_of(program.public), config.owners.images_per_request
        need = cost.masked_weight_bytes + images * (cost.offline_bytes + cost.online_bytes)
        what, remedy = f"a request of {images} images", "lower owners.images_per_request, or use a larger machine"
    else:
        need = 2 * (config.limits.key_memory_mb << 20)
        what, remedy = (
            "evaluation keys, twice limits.key_memory_mb",
            "lower limits.key_memory_mb, or use a larger machine",
        )
    have = _available()
    if have is None:
        return fine("memory", f"up to {_amount(need)} for {what}; this system does not tell how much is available")
    found = f"{_amount(have)} available, up to {_amount(need)} for {what}"
    return fine("memory", found) if have >= need else warning("memory", found, remedy)


def _available() -> int | None:
    """Memory that this process could still take, in bytes: the machine's, or its container's if that is less."""
    try:
        words = Path("/proc/meminfo").read_text().split()
    except OSError:
        return None
    have = int(words[words.index("MemAvailable:") + 1]) << 10
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
    except (OSError, ValueError):
        return have
    return have if limit == "max" else min(have, max(0, int(limit) - used))


def _cost(model: Compiled) -> str:
    program = model.program
    if isinstance(program, sharing.Program):
        cost = sharing.cost_of(program.public)
        return f"{cost.rounds} rounds, {_amount(cost.online_bytes)} between the parties for an image"
    assert isinstance(program, ckks.Program)
    seconds = program.cost.milliseconds / 1000
    return f"{_amount(program.cost.evaluation_key_bytes)} of evaluation keys, {seconds:.2g} s an evaluation"


def _amount(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
