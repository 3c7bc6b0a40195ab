"""The network as a process will find it: ports free or already its own, peers there, and who they say they are."""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import errno
import hashlib
import http.client
import secrets
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from protocols.conversation import Conversation
from protocols.deployment.findings import Finding, fine, warning, wrong
from protocols.deployment.roles import pins_of
from protocols.deployment.settings import PORTS, Address, Config
from protocols.pki import Bundle
from protocols.sharing.messages import JOIN, STREAMS, Caps, Dealing, Join, Joined, Role
from protocols.sharing.talk import Talk
from protocols.tls import bundle_context, dial
from protocols.wire import Wire
from secureimg.errors import SecureImgError

__all__ = ["ask_program", "examine_peers", "examine_ports"]

_PATIENCE: Final = 5.0
_OWN: Final = 1.0
_VERDICT: Final = 0.5
_CLOCK: Final = 30.0


def examine_ports(config: Config, bundle: Bundle | None) -> Iterator[Finding]:
    """Check each port that the process listens on: free, or served by this very process already."""
    for section in PORTS:
        place = getattr(config, section)
        if place is None:
            continue
        check = f"port ({section})"
        reason = _taken(place.host, place.port)
        if reason is None:
            yield fine(check, f"{place.host}:{place.port} is free")
        elif reason == errno.EADDRINUSE and bundle is not None and _served_by(place, bundle, config):
            yield fine(check, f"{place.host}:{place.port}: the process is running")
        elif reason == errno.EADDRINUSE:
            yield wrong(check, f"{place.host}:{place.port} is taken by another process",
                        f"stop that one (`ss -ltnp` tells which it is), or choose another {section}.port")  # fmt: skip
        else:
            yield wrong(check, f"cannot listen on {place.host}:{place.port} ({errno.errorcode.get(reason, reason)})",
                        f"choose an address of this machine in {section}.host, and a port that it may take")  # fmt: skip


def examine_peers(config: Config, bundle: Bundle | None) -> Iterator[Finding]:
    """Check each process that this one will dial: there, in its role, and willing to talk to this one."""
    named = {"party-1": config.peers.party1, "dealer": config.peers.dealer}
    asked = {role: address for role, address in named.items() if address is not None}
    for role, address in asked.items():
        if bundle is None:
            yield warning(f"peer ({role})", f"{address} is not asked", "mend the certificate first")
        else:
            yield _peer(config, role, address)
    if config.web is not None and getattr(config.web, "other", None) is not None:
        yield _clock(config)
    elif asked:
        yield fine(
            "clock", f"{_now()}; certificates are valid by it; peers' clocks cannot be compared without web.other"
        )
    else:
        yield fine("clock", f"{_now()}; certificates are valid by it" if bundle is not None else _now())


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _taken(host: str, port: int) -> int | None:
    """Return the system's reason why a port cannot be listened on, or None."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        return error.errno or errno.EADDRNOTAVAIL
    return None


def _served_by(place: object, bundle: Bundle, config: Config) -> bool:
    """Whether what listens there shows this process's own certificate."""
    host, port = getattr(place, "host", ""), getattr(place, "port", 0)
    ours = {bundle.fingerprint}
    if config.web is not None and config.web.certificate is not None:
        with contextlib.suppress(OSError, ValueError):
            first = config.web.certificate.read_text().partition("-----END CERTIFICATE-----")
            ours.add(hashlib.sha256(ssl.PEM_cert_to_DER_cert("".join(first[:2]))).hexdigest())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is compared with our own, not believed
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - what was listened on, dialled
    try:
        with (
            socket.create_connection((host, port), timeout=_OWN) as plain,
            context.wrap_socket(plain) as secured,
        ):
            shown = secured.getpeercert(binary_form=True) or b""
    except (OSError, ValueError):
        return False
    return hashlib.sha256(shown).hexdigest() in ours


def _peer(config: Config, role: str, address: Address) -> Finding:
    check = f"peer ({role})"
    pins = pins_of(config).get(role, frozenset())
    try:
        context = bundle_context(config.identity, ssl.PROTOCOL_TLS_CLIENT)
        sock = dial(*address.pair, context, _PATIENCE, role, pins)
    except SecureImgError as error:
        return wrong(check, str(error))
    with sock:
        certificate = sock.getpeercert() or {}
        refused = _refused(sock)
    if refused is not None:
        return wrong(
            check, f"{address} does not accept this certificate ({refused})",
            "have both certificates issued by the same authority, and look at the pins of the other side",
        )  # fmt: skip
    expiry = float(ssl.cert_time_to_seconds(str(certificate.get("notAfter"))))
    left = (expiry - time.time()) / 86_400
    found = f"{address} proved to be {role}{', pinned' if pins else ''}; its certificate is valid for {left:.0f} days"
    if left < 7:
        return warning(check, found, "have it renewed there by `secureimg pki rotate`")
    return fine(check, found)


def ask_program(config: Config, bundle: Bundle) -> tuple[str, str]:
    """Ask party 1, as party 0, for the model that it serves: its name, and its program's fingerprint.

    Raises
    ------
    SecureImgError, RefusedError, OSError
        If it cannot be asked, or refuses.
    """
    assert config.peers.party1 is not None
    context = bundle_context(config.identity, ssl.PROTOCOL_TLS_CLIENT)
    pins = pins_of(config).get("party-1", frozenset())
    with dial(*config.peers.party1.pair, context, _PATIENCE, "party-1", pins) as sock:
        talk = Talk(Conversation(Role.ZERO, Caps(), JOIN), Wire(sock), _PATIENCE)
        dealing: Dealing = "client-aided" if config.peers.dealer is None else "dealer"
        talk.say(Join(
            key=talk.conversation.key, session=secrets.token_hex(16), owner=bundle.fingerprint, dealing=dealing,
            purpose="stock", stream=STREAMS[0],
        ))  # fmt: skip
        joined = talk.hear().message
    assert isinstance(joined, Joined)
    return joined.model, joined.program


def _refused(sock: ssl.SSLSocket) -> str | None:
    """Return the other side's complaint about our certificate: in TLS 1.3 it comes after the handshake."""
    sock.settimeout(_VERDICT)
    try:
        return "it closed the connection" if sock.recv(1) == b"" else None
    except TimeoutError:
        return None  # it waits for us to speak
    except OSError as error:
        return str(getattr(error, "reason", None) or error.strerror or type(error).__name__).replace("_", " ").lower()


def _clock(config: Config) -> Finding:
    """Compare with the `Date` that the other party's web interface tells, whoever signed its certificate."""
    assert config.web is not None
    other = urlsplit(str(config.web.other))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # a hint about clocks, nothing is trusted to it
    connection = http.client.HTTPSConnection(other.hostname or "", other.port, timeout=_PATIENCE, context=context)
    try:
        connection.request("HEAD", "/")
        told = email.utils.parsedate_to_datetime(connection.getresponse().getheader("Date") or "")
    except (OSError, ValueError, http.client.HTTPException) as error:
        return warning("clock", f"{_now()}; {config.web.other} does not tell its time ({type(error).__name__})",
                       "see that web.other is right and that party runs")  # fmt: skip
    finally:
        connection.close()
    apart = abs(told.timestamp() - time.time())
    found = f"{_now()}; the other party's is {apart:.0f} s apart"
    if apart > _CLOCK:
        return wrong("clock", found, "set both clocks (NTP): certificates and audit logs depend on them")
    return fine("clock", found)
