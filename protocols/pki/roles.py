"""What the holder of a certificate may be. The role is a DNS name in the certificate, and there is exactly one."""

from __future__ import annotations

from collections.abc import Iterable

from secureimg.errors import KeyMaterialError

__all__ = ["DIALLING", "ROLES", "SERVING", "is_role_name", "role_in", "role_name"]

ROLES = ("server", "party-0", "party-1", "dealer", "owner", "coordinator", "operator")
"""The CKKS server, the machines of a two-party deployment, who has images or updates, who leads training across owners, and
who reads metrics."""

SERVING = frozenset({"server", "party-0", "party-1", "dealer"})
"""Roles that others connect to."""

DIALLING = frozenset({"party-0", "party-1", "dealer", "owner", "coordinator", "operator"})
"""Roles that connect to others."""

_SUFFIX = ".secureimg.internal"


def role_name(role: str) -> str:
    """Return the DNS name that the certificate of a role carries.

    Raises
    ------
    KeyMaterialError
        If there is no such role.
    """
    if role not in ROLES:
        raise KeyMaterialError(f"{role[:40]!r} is not a role: choose from {', '.join(ROLES)}")
    return role + _SUFFIX


def is_role_name(name: str) -> bool:
    """Whether a DNS name claims a role, one that exists or not."""
    name = name.lower().rstrip(".")
    return name.endswith(_SUFFIX) or name == _SUFFIX[1:]


def role_in(names: Iterable[str]) -> str:
    """Return the role that the DNS names of one certificate claim.

    Raises
    ------
    ValueError
        If they claim none, more than one, or one that does not exist.
    """
    claimed = [name.lower().rstrip(".") for name in names if is_role_name(name)]
    if len(claimed) != 1:
        told = ", ".join(ascii(name[:60]) for name in claimed[:4]) or "none"
        raise ValueError(f"exactly one role name (<role>{_SUFFIX}) is needed, it has {told}")
    role = claimed[0].removesuffix(_SUFFIX)
    if role not in ROLES:
        raise ValueError(f"{role[:40]!a} is not a role ({', '.join(ROLES)})")
    return role
