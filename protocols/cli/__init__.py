"""The `secureimg` command."""

from protocols.cli.app import main

__all__ = ["main"]
