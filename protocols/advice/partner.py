"""A party as a process of its own, for kernels only: `python -m protocols.advice.partner 0|1 BUNDLE [PORT]`.

Party 1 serves one kernel after the other: a line on standard input names the next, a line on standard output answers. It
ends when standard input does.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from protocols.advice.kernels import KERNELS, compile_kernel
from protocols.sharing import PartyOneServer, PartyServer, PartyZeroServer
from secureimg.sharing import Program, one_blas_thread, warm_up

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Serve kernels until standard input closes."""
    number, identity = int(arguments[0]), Path(arguments[1])
    server: PartyServer
    programs: dict[str, Program] = {}
    if number:
        first = next(iter(KERNELS))
        server = PartyOneServer(identity, compile_kernel(first), client_aided=True, dealer=None)
    else:
        server = PartyZeroServer(identity, ("127.0.0.1", int(arguments[2])), client_aided=True, dealer=None)
    with one_blas_thread():
        threading.Thread(target=server.listener.run, name="listener", daemon=True).start()
        if number:
            _say(server.listener.address[1])
            programs = {name: compile_kernel(name) for name in KERNELS}
        warm_up()
        if not number:
            _say(server.listener.address[1])
        for line in sys.stdin:
            if isinstance(server, PartyOneServer):
                server.swap(programs[line.strip()])
            _say("ready")
    server.close()


def _say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
