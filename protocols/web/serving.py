"""An application on its port: server certificate, TLS 1.3, no client certificate."""

from __future__ import annotations

import ssl
from pathlib import Path

from starlette.applications import Starlette

from protocols.operations.running import HttpsServer
from secureimg.errors import KeyMaterialError

__all__ = ["web_context", "web_server"]


def web_context(certificate: Path, key: Path | None = None) -> ssl.SSLContext:
    """Return the TLS context of a web interface. Owners show a token there, not a certificate.

    Parameters
    ----------
    certificate : Path
        Chain of certificates (PEM), the server's first; a bundle of `secureimg pki issue` will do.
    key : Path, optional
        Its private key, if the first file does not hold it.

    Raises
    ------
    KeyMaterialError
        If they cannot be read or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        held = f"{certificate} and {key}" if key is not None else str(certificate)
        raise KeyMaterialError(
            f"{held} cannot be used for the web interface ({reason}): name a certificate chain and its key, both PEM"
        ) from None
    return context


def web_server(
    app: Starlette,
    certificate: Path,
    key: Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    connections: int = 64,
    patience: float = 60.0,
    drain: float = 5.0,
) -> HttpsServer:
    """Return the server of a web interface, listening but not yet started.

    Parameters
    ----------
    app : Starlette
        From `party_application` or `server_application`.
    certificate, key
        See `web_context`.
    host, port, connections, patience, drain
        See `HttpsServer`. A CKKS server needs more patience: keys may come over slow lines.

    Raises
    ------
    KeyMaterialError, ProtocolError
        If the certificate or the address cannot be used.
    """
    return HttpsServer(
        app, web_context(certificate, key), host, port,
        name="web", connections=connections, patience=patience, drain=drain,
    )  # fmt: skip
