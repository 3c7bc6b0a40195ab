"""One decoder under libFuzzer, guided by coverage of our own Python code.

    python fuzzing/atheris_harness.py TARGET [libFuzzer arguments] [corpus folder]

Needs the extra `fuzz` (atheris). Without a corpus folder, the target's valid encodings are the first inputs. An escape ends
the run and leaves `crash-...`: replay it with `python -m fuzzing --replay crash-... --target TARGET`.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-untyped]  # an extra, without types

sys.path[0] = str(
    Path(__file__).resolve().parent.parent
)  # this file's own folder holds nothing to import by a short name

with atheris.instrument_imports(
    include=["secureimg", "protocols"],
    exclude=["secureimg.ckks.bulk", "secureimg.sharing.kernels", "secureimg.sharing.ring"],  # numba compiles these
):
    from fuzzing.mutation import mutant
    from fuzzing.targets import Target, find_target, target_names
    from fuzzing.worker import judge

    target_names()  # imports every decoder

__all__ = ["main"]

_OWN_SHARE = 0.5


class EscapedError(Exception):
    """An input broke the rule."""


def _run(target: Target, arguments: list[str]) -> None:
    seeds = target.seeds()

    def one(data: bytes) -> None:
        kind, trace = judge(target, data)
        if trace is not None:
            raise EscapedError(f"{kind}\n{trace}")

    def change(data: bytes, largest: int, seed: int) -> bytes:
        """Half of the mutants are libFuzzer's, with digests made right again; the other half are ours."""
        rng = random.Random(seed)
        if rng.random() < _OWN_SHARE:
            return mutant([bytes(data), *seeds], seed, 0, target.reseal, None)[:largest]
        changed = atheris.Mutate(data, largest)
        return target.reseal(changed)[:largest] if target.reseal is not None and rng.random() < _OWN_SHARE else changed

    with tempfile.TemporaryDirectory() as folder:
        if not any(Path(argument).is_dir() for argument in arguments):
            for number, data in enumerate(seeds):
                Path(folder, str(number)).write_bytes(data)
            arguments = [*arguments, folder]
        longest = max(map(len, seeds))
        limits = [f"-max_len={2 * longest + 4096}", "-rss_limit_mb=4096", f"-timeout={int(20 * target.seconds)}"]
        atheris.Setup([sys.argv[0], *limits, *arguments], one, custom_mutator=change)
        atheris.Fuzz()


def main() -> None:
    """Read the command line and fuzz."""
    if len(sys.argv) < 2 or sys.argv[1] not in target_names():
        sys.exit(f"usage: {sys.argv[0]} TARGET [libFuzzer arguments]\ntargets: {', '.join(target_names())}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _run(find_target(sys.argv[1]), sys.argv[2:])


if __name__ == "__main__":
    main()
