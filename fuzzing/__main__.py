"""`python -m fuzzing`: campaigns from the command line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fuzzing.campaign import Report, run_campaign
from fuzzing.targets import find_target, target_names, targets
from fuzzing.worker import judge

__all__ = ["main"]

_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main(arguments: list[str] | None = None) -> int:
    """Run campaigns, list targets, or replay an input. Return 0 if nothing escaped."""
    parser = argparse.ArgumentParser(prog="python -m fuzzing", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="decoders to fuzz (default: all)")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="inputs for each target (default: 1,000,000)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other inputs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--corpus", type=Path, default=Path("fuzz-corpus"), help="where escaping inputs are saved")
    parser.add_argument("--json", action="store_true", help="print one JSON object a target")
    parser.add_argument("--list", action="store_true", help="list the targets")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="decode one saved input")
    parser.add_argument("--target", help="the target of --replay")
    options = parser.parse_args(arguments)
    for name in _THREADS:  # before numpy is there: processes share the cores, and a fork would lose a pool's threads
        os.environ.setdefault(name, "1")
    try:
        if options.list:
            for name in target_names():
                print(f"{name:24} {targets()[name].description}")
            return 0
        if options.replay is not None:
            return _replay(options.replay, options.target or options.replay.resolve().parent.name)
        names = options.targets or target_names()
        chosen = [find_target(name) for name in names]
    except KeyError as error:
        print(error.args[0], file=sys.stderr)
        return 2
    clean = True
    for target in chosen:
        tell = _teller(target.name, options.inputs) if sys.stderr.isatty() else None
        report = run_campaign(
            target, inputs=options.inputs, seed=options.seed, jobs=options.jobs, corpus=options.corpus, tell=tell
        )
        print(json.dumps(report.to_builtins()) if options.json else _text(report, options.corpus), flush=True)
        clean = clean and report.clean
    return 0 if clean else 1


def _replay(path: Path, name: str) -> int:
    target = find_target(name)
    target.seeds()  # what the target decodes with is made with them
    outcome, trace = judge(target, path.read_bytes())
    print(trace or f"{name}: {outcome}")
    return 1 if trace is not None else 0


def _teller(name: str, inputs: int) -> Callable[[int], None]:
    def tell(done: int) -> None:
        print(f"\r{name}: {done:,} of {inputs:,}", end="" if done < inputs else "\n", file=sys.stderr, flush=True)

    return tell


def _text(report: Report, corpus: Path) -> str:
    found = report.to_builtins()
    refused = ", ".join(f"{count:,} {kind}" for kind, count in found["refused"].items()) or "none"
    lines = [
        f"{report.target}: {found['inputs']:,} inputs in {found['seconds']:.0f} s ({found['inputs_per_second']:,}/s)",
        f"  valid {found['valid']:,}; refused {refused}",
        f"  slowest {found['slowest_ms']:.1f} ms (input {found['slowest_input']}); peak memory {found['peak_mib']} MiB",
    ]
    for kind, count in found["escaped"].items():
        lines.append(f"  ESCAPED {count:,} times: {kind}")
    if found["escaped"]:
        lines.append(f"  inputs are in {corpus / report.target}: replay with python -m fuzzing --replay FILE")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
