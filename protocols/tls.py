"""TLS 1.3 with both sides authenticated: contexts, dialling, and who the other side is."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import threading
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from protocols.identity import OWNER_BUNDLE, PARTY_ROLES, SERVER_NAME
from secureimg.errors import KeyMaterialError, RemoteProtocolError

__all__ = [
    "accept",
    "bundle_context",
    "cut",
    "dial",
    "owner_context",
    "peer_fingerprint",
    "peer_role",
    "server_context",
]


def server_context(directory: Path) -> ssl.SSLContext:
    """Return the context of a server whose identities are in `directory`.

    TLS 1.3 only; owners must show a certificate that the directory's authority signed for owners.

    Raises
    ------
    KeyMaterialError
        If a file is missing or malformed.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.num_tickets = 0  # every connection proves itself anew
    try:
        context.load_cert_chain(directory / "server.pem", directory / "server.key")
        context.load_verify_locations(cafile=directory / "ca.pem")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise KeyMaterialError(f"the TLS identity in {directory} cannot be loaded: {_reason(error)}") from None
    return context


def owner_context(identity: Path) -> ssl.SSLContext:
    """Return the context of an owner.

    Parameters
    ----------
    identity : Path
        The owner's bundle (private key, certificate, authority's certificate), or a directory with `owner.pem`.

    Raises
    ------
    KeyMaterialError
        If the bundle is missing, malformed or readable by others.
    """
    return bundle_context(identity / OWNER_BUNDLE if identity.is_dir() else identity, ssl.PROTOCOL_TLS_CLIENT)


def bundle_context(bundle: Path, side: int) -> ssl.SSLContext:
    """Return the context of whoever holds a bundle: an owner, a party, a dealer.

    Parameters
    ----------
    bundle : Path
        Private key, certificate, authority's certificate.
    side : int
        `ssl.PROTOCOL_TLS_CLIENT` to dial, `ssl.PROTOCOL_TLS_SERVER` to listen.

    Raises
    ------
    KeyMaterialError
        If the bundle is missing, malformed or readable by others.
    """
    try:
        if bundle.stat().st_mode & 0o077:
            raise KeyMaterialError(f"{bundle} is readable by others: run chmod 600 on it")
        certificates = x509.load_pem_x509_certificates(bundle.read_bytes())
        authorities = [c for c in certificates if c.extensions.get_extension_for_class(x509.BasicConstraints).value.ca]
        context = ssl.SSLContext(side)
        _harden(context)
        context.load_cert_chain(bundle)
        for authority in authorities:
            context.load_verify_locations(cadata=authority.public_bytes(Encoding.DER))
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        raise KeyMaterialError(
            f"{bundle} is not an identity ({_reason(error)}): use the .pem file that the operator of the service gave you"
        ) from None
    if not authorities:
        raise KeyMaterialError(f"{bundle} lacks the certificate of its authority: ask the operator for a new one")
    if side == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # every connection proves itself anew
    return context


def dial(host: str, port: int, context: ssl.SSLContext, timeout: float, name: str = SERVER_NAME) -> ssl.SSLSocket:
    """Connect to a server and check that it is the one our authority vouches for under `name`.

    Raises
    ------
    RemoteProtocolError
        If nobody answers, or the other side is not the authority's server or speaks an older TLS.
    """
    try:
        plain = socket.create_connection((host, port), timeout=timeout)
    except OSError as error:
        raise RemoteProtocolError(
            f"no connection to {host}:{port} ({_reason(error)}): is the server running?"
        ) from None
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(plain, server_hostname=name)
    except (OSError, ValueError) as error:
        plain.close()
        raise RemoteProtocolError(
            f"{host}:{port} did not prove to be the expected server ({_reason(error)}): check the address and that the "
            "identity file is this server's"
        ) from None


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


def peer_fingerprint(connection: ssl.SSLSocket) -> str:
    """Return the SHA-256 of the other side's certificate, in hexadecimal."""
    certificate = connection.getpeercert(binary_form=True)
    if certificate is None:
        raise RemoteProtocolError("the other side showed no certificate")
    return hashlib.sha256(certificate).hexdigest()


def peer_role(connection: ssl.SSLSocket) -> str:
    """Return what the other side's certificate says it is: "party-0", "party-1", "dealer", or "owner"."""
    certificate = connection.getpeercert() or {}
    names = [str(entry[1]) for entry in certificate.get("subjectAltName", ()) if entry[0] == "DNS"]
    return next((role for role, name in PARTY_ROLES.items() if name in names), "owner")


def cut(connection: socket.socket) -> None:
    """End a connection both ways, from any thread.

    Not by the method of a TLS socket: that drops TLS first, and a thread that reads or sends meanwhile would go on in the
    clear. Not by closing alone: helper processes may hold copies of the descriptor.
    """
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.options |= ssl.OP_NO_COMPRESSION


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or type(error).__name__).replace("_", " ").lower()
    if isinstance(error, TimeoutError):
        return "timed out"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
