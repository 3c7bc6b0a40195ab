"""`secureimg demo --on shares`: what each party sees of a picture, and the answer that they give together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protocols.cli.console import Steps, amount, duration, out, write_json
from protocols.cli.options import DealerKind, LoadedModel, ModelOptions, ShareOptions
from protocols.cli.remote import labels_of
from protocols.cli.shares import TRUST, plain_answer, run_on_shares
from protocols.cli.terminal import bars, picture, side_by_side
from secureimg.errors import ImageError
from secureimg.images import save_image
from secureimg.sharing import view_share

__all__ = ["show_shares"]

Array = NDArray[np.float64]

_WIDTH = 22


def show_shares(
    options: ModelOptions,
    model: LoadedModel,
    dealer: DealerKind,
    shown: Array,
    values: Array,
    name: str,
    save: Path | None,
    *,
    as_json: bool,
) -> None:
    """Run one picture on shares and show it, both shares of it, and both answers."""
    steps = Steps()
    done = run_on_shares(options, ShareOptions(), dealer, values, steps, 1)
    plain = plain_answer(model, done.program, values).reshape(done.values.shape)
    shares = [view_share(done.program, share) for share in done.shares]
    saved = _save(save, shown, shares) if save is not None else []
    names = model.graph.labels or tuple(str(i) for i in range(done.values.size))
    error = float(np.abs(done.values - plain).max())
    label, plain_label = done.labels[0], labels_of(plain)[0]
    if as_json:
        write_json(
            {
                "model": model.graph.name,
                "on": "shares",
                "dealer": dealer.value,
                "trust": TRUST[dealer],
                "image": name,
                "label": names[label] if label < len(names) else str(label),
                "plain_label": names[plain_label] if plain_label < len(names) else str(plain_label),
                "labels": done.labels,
                "outputs": [row.ravel().tolist() for row in done.outputs],
                "max_abs_error": error,
                "seconds": done.seconds,
                "bytes": done.bytes,
                "rounds": done.rounds,
                "peak_rss": done.peak_rss,
                "steps": steps.as_list(),
                "saved": [str(path) for path in saved],
            }
        )
        return
    out.print(
        side_by_side(
            (name, picture(shown, _WIDTH)),
            ("what party 0 sees", picture(shares[0], _WIDTH)),
            ("what party 1 sees", picture(shares[1], _WIDTH)),
        )
    )
    out.print()
    out.print(steps.table())
    out.print()
    scores, clear = done.values.ravel().tolist(), plain.ravel().tolist()
    if len(scores) <= 20:
        out.print(bars(list(names), [("on shares", scores), ("in the clear", clear)]))
    out.print()
    out.print(f"[bold]answer: {names[label] if label < len(names) else label}[/bold]   in the clear: "
              f"{names[plain_label] if plain_label < len(names) else plain_label}")  # fmt: skip
    between = done.bytes["online"]["party 0 to party 1"] + done.bytes["online"]["party 1 to party 0"]
    out.print(
        f"largest error {error:.2g}; online {duration(done.seconds['online'])} and {amount(between)} in {done.rounds} "
        f"rounds; offline {duration(done.seconds['offline'])} and {amount(done.bytes['offline']['dealer to parties'])}"
    )
    out.print(f"dealer: {dealer.value}. {TRUST[dealer]}")
    for path in saved:
        out.print(f"saved {path}", soft_wrap=True)


def _save(directory: Path, shown: Array, shares: list[Array]) -> list[Path]:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"{directory} cannot be made: {error.strerror}: name another directory") from None
    paths = [directory / name for name in ("picture.png", "what_party_0_sees.png", "what_party_1_sees.png")]
    for path, array in zip(paths, (shown, *shares), strict=True):
        save_image(path, array)
    return paths
