"""TLS 1.3 with both sides authenticated: contexts, dialling, and who the other side is."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import threading
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from protocols.pki.bundles import Bundle
from protocols.pki.roles import DIALLING, SERVING, role_in, role_name
from secureimg.errors import KeyMaterialError, RemoteProtocolError

__all__ = [
    "IdentityContext",
    "accept",
    "bundle_context",
    "check_pins",
    "cut",
    "dial",
    "handshake_failure",
    "peer_fingerprint",
    "peer_role",
    "reason",
]

_OTHER_AUTHORITY = (2, 18, 19, 20, 21, 24, 7)
"""OpenSSL's X509_V_ERR codes for an issuer that is not among ours, or did not sign this."""

_THEIR_VERDICT = ("certificate", "unknown ca", "access denied")
"""Words in the TLS alerts about a certificate."""


class IdentityContext(ssl.SSLContext):
    """A context of TLS 1.3 with both sides authenticated, which knows whose it is.

    Attributes
    ----------
    identity : Bundle
    """

    identity: Bundle


def bundle_context(bundle: Path, side: int) -> IdentityContext:
    """Return the context of whoever holds a bundle.

    Parameters
    ----------
    bundle : Path
        Private key, certificate, authorities' certificates.
    side : int
        `ssl.PROTOCOL_TLS_CLIENT` to dial, `ssl.PROTOCOL_TLS_SERVER` to listen.

    Raises
    ------
    KeyMaterialError
        If the bundle is missing, malformed, expired, readable by others, or of a role that does not do this.
    """
    identity = Bundle.load(bundle)
    serves = side == ssl.PROTOCOL_TLS_SERVER
    if identity.role not in (SERVING if serves else DIALLING):
        raise KeyMaterialError(
            f"{identity} cannot {'listen' if serves else 'connect to others'}: a certificate of role "
            f"{identity.role} is for the other side only"
        )
    context = IdentityContext(side)
    context.identity = identity
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.options |= ssl.OP_NO_COMPRESSION
    context.hostname_checks_common_name = False
    if serves:
        context.num_tickets = 0  # every connection proves itself anew
    try:
        context.load_cert_chain(bundle)
        for authority in identity.authorities:
            context.load_verify_locations(cadata=authority.public_bytes(Encoding.DER))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise KeyMaterialError(f"{identity} cannot be loaded ({reason(error)}): ask for a new one") from None
    return context


def dial(
    host: str,
    port: int,
    context: IdentityContext,
    timeout: float,
    role: str,
    pins: frozenset[str] = frozenset(),
) -> ssl.SSLSocket:
    """Connect to a service and check that it is the one our authority vouches for in that role.

    Parameters
    ----------
    host, port : str, int
        Where it listens.
    context : IdentityContext
        Ours, from `bundle_context`.
    timeout : float
        Seconds for the connection, and for every later read.
    role : str
        What the other side must be.
    pins : set of str
        SHA-256 of the certificates to accept, in hexadecimal; empty: any of the authority's.

    Raises
    ------
    KeyMaterialError
        If our own certificate has expired since the context was made.
    RemoteProtocolError
        If nobody answers, or the other side does not prove to be that role, or not with a pinned certificate, or speaks an
        older TLS.
    """
    where = f"{host}:{port}"
    context.identity.check_time()
    try:
        plain = socket.create_connection((host, port), timeout=timeout)
    except (OSError, OverflowError, UnicodeError) as error:
        raise RemoteProtocolError(f"no connection to {where} ({reason(error)}): is the server running?") from None
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secured = context.wrap_socket(plain, server_hostname=role_name(role))
    except (OSError, ValueError) as error:
        plain.close()
        if isinstance(error, (ConnectionError, TimeoutError, ssl.SSLEOFError)):  # nothing is said about certificates
            remedy = "is it running, and has it room for one more connection? try again later"
        else:
            remedy = "check the address and that both identity files are of one authority"
        raise RemoteProtocolError(
            f"{where} did not prove to be the expected server, {role} ({handshake_failure(error, context, where)}): {remedy}"
        ) from None
    try:
        _check_peer(secured, where, role, pins)
    except BaseException:
        secured.close()
        raise
    return secured


def _check_peer(secured: ssl.SSLSocket, where: str, role: str, pins: frozenset[str]) -> None:
    found = peer_role(secured)
    if found != role:
        raise RemoteProtocolError(f"{where} is {found}, not {role}: check the address")
    check_pins(peer_fingerprint(secured), where, role, pins)


def check_pins(fingerprint: str, where: str, role: str, pins: frozenset[str]) -> None:
    """Check that a certificate is one of those that are pinned for its role, if any are.

    Raises
    ------
    RemoteProtocolError
        If it is none of them.
    """
    if pins and fingerprint not in {pin.lower() for pin in pins}:
        raise RemoteProtocolError(
            f"{where} shows another certificate of role {role} than the pinned: expected SHA-256 "
            f"{' or '.join(sorted(pins))}, got {fingerprint}: if its certificate was rotated, pin the new fingerprint "
            "(`secureimg pki check`), else do not go on"
        )


def accept(connection: socket.socket, context: ssl.SSLContext, seconds: float) -> ssl.SSLSocket:
    """Do the server's side of a handshake, which takes at most `seconds` in all, however slowly its bytes come.

    Raises
    ------
    OSError, ValueError
        If it fails or is late. The connection is closed then.
    """
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(seconds)
    try:
        secured = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
    except (OSError, ValueError):
        connection.close()
        raise
    # a timeout for each read would never end: a guard cuts the connection below TLS
    guard = threading.Timer(seconds, cut, (secured,))
    guard.daemon = True
    guard.start()
    try:
        secured.do_handshake()
    except (OSError, ValueError):
        secured.close()
        raise
    finally:
        guard.cancel()
    return secured


def peer_fingerprint(connection: ssl.SSLSocket | ssl.SSLObject) -> str:
    """Return the SHA-256 of the other side's certificate, in hexadecimal."""
    certificate = connection.getpeercert(binary_form=True)
    if certificate is None:
        raise RemoteProtocolError("the other side showed no certificate")
    return hashlib.sha256(certificate).hexdigest()


def peer_role(connection: ssl.SSLSocket | ssl.SSLObject) -> str:
    """Return what the other side's certificate says it is: one of `protocols.pki.ROLES`.

    Raises
    ------
    RemoteProtocolError
        If it names no role, more than one, or one that does not exist.
    """
    certificate = connection.getpeercert() or {}
    names = [str(entry[1]) for entry in certificate.get("subjectAltName", ()) if entry[0] == "DNS"]
    try:
        return role_in(names)
    except ValueError as error:
        raise RemoteProtocolError(f"the other side's certificate is not of this deployment: {error}") from None


def handshake_failure(error: Exception, context: ssl.SSLContext, where: str) -> str:
    """Return why a handshake failed, and whose certificate is to blame: ours (file, subject, expiry) or theirs (address)."""
    identity = context.identity if isinstance(context, IdentityContext) else None
    ours = f"ours is {identity}" if identity else "ours is not a bundle's"
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"the certificate that {where} shows does not pass: {error.verify_message}"
        return f"{text}; {ours}" if error.verify_code in _OTHER_AUTHORITY else text
    why = reason(error)
    if isinstance(error, ssl.SSLError) and any(word in why for word in _THEIR_VERDICT):
        return f"{where} does not accept our certificate: {why}; {ours}"
    return why


def cut(connection: socket.socket) -> None:
    """End a connection both ways, from any thread.

    Not by the method of a TLS socket: that drops TLS first, and a thread that reads or sends meanwhile would go on in the
    clear. Not by closing alone: helper processes may hold copies of the descriptor.
    """
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def reason(error: Exception) -> str:
    """Return why a connection failed, in words for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or type(error).__name__).replace("_", " ").lower()
    if isinstance(error, TimeoutError):
        return "timed out"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
