"""``python -m training NAME --data FOLDER --out FOLDER``."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from training.produce import produce
from training.recipes import RECIPES


def main() -> None:
    """Train the named models, or all."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Train the shipped models.")
    parser.add_argument("name", choices=(*RECIPES, "all"))
    parser.add_argument("--data", type=Path, required=True, help="folder with the data (training/README.md)")
    parser.add_argument("--out", type=Path, required=True, help="folder for NAME.onnx and NAME.json")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in RECIPES if arguments.name == "all" else (arguments.name,):
        produce(RECIPES[name], arguments.data, arguments.out)


if __name__ == "__main__":
    main()
