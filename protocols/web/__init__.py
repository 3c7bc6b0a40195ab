"""HTTPS for owners without a certificate: an interface (OpenAPI) on each party and the CKKS server; a page for browsers."""

from protocols.web.party_app import party_application
from protocols.web.server_app import server_application
from protocols.web.serving import web_context, web_server
from protocols.web.tokens import TokenFile

__all__ = ["TokenFile", "party_application", "server_application", "web_context", "web_server"]
