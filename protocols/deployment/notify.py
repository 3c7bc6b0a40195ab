"""Tells the service manager how a process is, if it was started by one that asks (systemd, ``Type=notify-reload``)."""

from __future__ import annotations

import logging
import os
import socket
import time

__all__ = ["notify", "notify_reloading"]

_log = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Send a state, like ``READY=1`` or ``STOPPING=1``, to the socket that ``NOTIFY_SOCKET`` names; nothing without one."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.connect("\0" + place[1:] if place.startswith("@") else place)
            sock.sendall(state.encode())
    except OSError as error:
        _log.warning("the service manager cannot be told %s: %s", state.partition("\n")[0], error.strerror)


def notify_reloading() -> None:
    """Say that a reload has begun; ``READY=1`` ends it."""
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
