"""The deployment's own certificate authority: who is who, with the role in the certificate."""

from protocols.pki.authority import Authority, create_bundles
from protocols.pki.bundles import OWNER_BUNDLE, Bundle, owner_bundle, replace_authorities
from protocols.pki.roles import ROLES, role_name

__all__ = [
    "OWNER_BUNDLE",
    "ROLES",
    "Authority",
    "Bundle",
    "create_bundles",
    "owner_bundle",
    "replace_authorities",
    "role_name",
]
