"""The `secureimg` command."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line. Its commands are loaded only now: most who import a module of this package need few of them."""
    from protocols.cli.app import main as run

    run()
