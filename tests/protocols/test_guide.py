"""The operator's guide: its commands do what it says, in the order in which it says them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from protocols.deployment import load

GUIDE = Path(__file__).parent.parent.parent / "docs" / "deployment.md"
LINES = [
    line
    for block in re.findall(r"```sh\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    for line in block.splitlines()
    if line.startswith("secureimg ")
]


def test_every_command_of_the_guide_works_up_to_where_processes_serve(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Identities, files and tokens are made as the guide says, and each file that it makes can be served."""
    monkeypatch.chdir(tmp_path)
    served, made = [], []
    for line in LINES:
        words = shlex.split(line.split(" > ")[0])[1:]
        if words[0] in ("serve", "doctor"):
            served.append(words[1])
        elif words[0] != "infer":
            command.run(*words)
            made.append(words[0])
    assert {"pki", "config", "token"} <= set(made)
    assert set(served) == {"dealer.toml", "party1.toml", "party0.toml", "server.toml"}
    for file in sorted(tmp_path.glob("*.toml")):
        if not file.name.startswith("tokens-"):
            config = load(file)
            assert config.identity.exists()
            assert config.web is None or config.web.tokens.exists()


def test_the_roles_of_the_guide_reach_each_other() -> None:
    """Addresses that files dial are those where the others listen by default."""
    text = "\n".join(LINES)
    assert "--dealer 127.0.0.1:7440" in text
    assert "--peer 127.0.0.1:7441" in text
    assert "--parties 127.0.0.1:7442 127.0.0.1:7441" in text
    assert "--server 127.0.0.1:7443" in text
