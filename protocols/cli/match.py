"""`secureimg match`: whose picture is this? A probe against a gallery, in the clear, on ciphertexts or on shares."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from numpy.typing import NDArray

from protocols.cli.console import err, out, write_json
from protocols.cli.inputs import Inputs, round_outwards
from protocols.cli.match_telling import Decision, Question, Told, draw, in_words, report_of, show
from protocols.cli.options import (
    DealerKind,
    DealerOption,
    Executor,
    Json,
    ModelOptions,
    Reveal,
    Samples,
    ShareOptions,
    Workers,
)
from protocols.cli.output_files import check_new
from protocols.cli.run import execute
from protocols.cli.shares import require_dealer
from protocols.galleries import Gallery, read_gallery
from protocols.gallery_graphs import Matching, checked_template_graph, templates_of
from protocols.pictures import prepare_picture
from protocols.preparation import preparation_of
from secureimg.errors import SecureImgError
from secureimg.graph import Graph, run_plain
from secureimg.images import load_image, save_image

__all__ = ["match"]

Array = NDArray[np.float64]

_USUAL_TOP: Final = 5

_ON_SHARES: Final = {
    Told.BEST: Reveal.LABEL, Told.TOP_K: Reveal.TOP_K, Told.THRESHOLD: Reveal.SCORES, Told.SCORES: Reveal.SCORES,
}  # fmt: skip


def match(
    probe: Annotated[Path, typer.Argument(metavar="PROBE", help="An image file.")],
    gallery_file: Annotated[Path, typer.Argument(metavar="GALLERY", help="A gallery, from `secureimg enroll`.")],
    on: Annotated[Executor, typer.Option("--on", help="In the clear, on CKKS, or on shares.")] = Executor.PLAIN,
    dealer: DealerOption = None,
    reveal: Annotated[Told, typer.Option(help="What the probe's owner asks for.")] = Told.BEST,
    top: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="How many places to tell or show. Default: 5.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(metavar="T", help="Least cosine, or largest squared distance, of a match."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Where the gallery's model is now, if it has moved.")
    ] = None,
    samples: Samples = None,
    workers: Workers = None,
    sheet: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE.png", help="Save the probe and its matches as a picture.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find PROBE in GALLERY: the most alike template, the K most alike, or all above a threshold.

    On ckks the probe's owner computes its template itself and sends it encrypted; the gallery's owner answers with all
    scores, encrypted, and the probe's owner, who decrypts them, decides.

    On shares the picture is shared: its template is computed and compared by both parties together, and nothing is opened
    but the decision. The gallery and the model are party 1's. This command plays both owners, each in a process of its own:
    labels and thumbnails it takes from GALLERY.
    """
    if sheet is not None:
        check_new(sheet)
    if on is Executor.SHARES:
        require_dealer(dealer)
    gallery = read_gallery(gallery_file)
    question = _question(gallery, reveal, top, threshold)
    graph = checked_template_graph(gallery, model)
    original = load_image(probe)
    values = prepare_picture(original, graph.input_shape, preparation_of(graph), str(probe))[None]
    asked = Matching(gallery_file, "scores", probe="template", model=model)
    if on is Executor.SHARES:
        asked = Matching(gallery_file, reveal.value, threshold, model=model)
        report, decision = _on_shares(asked, question, gallery, Inputs(values, (probe.name,), None), dealer, samples)
    else:
        report, decision = _on_template(
            on, asked, question, gallery, graph, Inputs(values, (str(probe),), None), workers
        )
    report = report_of(report, probe, gallery_file, gallery, question, decision)
    if sheet is not None:
        save_image(sheet, draw(original, probe.name, gallery, question, decision, on))
    if as_json:
        write_json(report)
        return
    show(report, original, probe.name, gallery, question, decision)
    if sheet is not None:
        out.print(f"saved {sheet}", soft_wrap=True)


def _question(gallery: Gallery, reveal: Told, top: int | None, threshold: float | None) -> Question:
    count = len(gallery.labels)
    if top is not None and top > count:
        raise SecureImgError(f"--top {top} of a gallery of {count}: the limit is {count}")
    if threshold is None and reveal is Told.THRESHOLD:
        raise SecureImgError("--reveal threshold: which one? add --threshold T")
    if threshold is not None:
        _check_threshold(threshold, gallery.metric, reveal)
    if reveal in (Told.BEST, Told.TOP_K) and threshold is None and count == 1:
        raise SecureImgError("the one template of this gallery is always the nearest: add --threshold T")
    return Question(reveal, top or min(_USUAL_TOP, count), threshold)


def _check_threshold(threshold: float, metric: str, reveal: Told) -> None:
    if reveal not in (Told.BEST, Told.THRESHOLD):
        raise SecureImgError(f"--threshold goes with --reveal best or threshold, not {reveal.value}: leave it away")
    if not math.isfinite(threshold):
        raise SecureImgError(f"--threshold {threshold} is not a finite number")
    if metric == "cosine" and not -1 < threshold <= 1:
        raise SecureImgError(f"--threshold {threshold:g} is no cosine: the least similarity is above -1 and at most 1")
    if metric != "cosine" and threshold < 0:
        raise SecureImgError(f"--threshold {threshold:g} is no distance: the largest squared distance is at least 0")


# ------------------------------------------------------------------------------------------------------------- running


def _on_template(
    on: Executor,
    asked: Matching,
    question: Question,
    gallery: Gallery,
    graph: Graph,
    given: Inputs,
    workers: int | None,
) -> tuple[dict[str, Any], Decision]:
    """The probe's owner computes the template, and decides on all scores."""
    start = time.perf_counter()
    with err.status("the probe's template, in the clear"):
        template, _ = templates_of(graph, given.values, gallery.metric, given.names)
    seconds = time.perf_counter() - start
    options = ModelOptions(asked.spell(), input_range=_template_range(gallery, template))
    report, outputs = execute(
        on, options, ShareOptions(), None, options.load(), Inputs(template, given.names, None), workers
    )
    report["seconds"] = {"template": seconds} | report["seconds"]
    return report, _decide(outputs[0].ravel(), question, gallery)


def _template_range(gallery: Gallery, template: Array) -> tuple[float, float]:
    if gallery.metric == "cosine":
        return -1.0, 1.0
    low, high = float(gallery.templates.min()), float(gallery.templates.max())
    return round_outwards(min(low, float(template.min())), max(high, float(template.max())))


def _decide(scores: Array, question: Question, gallery: Gallery) -> Decision:
    order = np.argsort(-scores if gallery.metric == "cosine" else scores, kind="stable")
    limit = question.threshold
    if limit is not None:
        near = scores[order] >= limit if gallery.metric == "cosine" else scores[order] <= limit
        order_near = order[near]
    else:
        order_near = order
    count = {Told.BEST: 1, Told.THRESHOLD: len(order), Told.TOP_K: question.top, Told.SCORES: 0}[question.reveal]
    matches = tuple(map(int, order_near[:count]))
    shown = tuple(map(int, order[: max(question.top, len(matches))]))
    return Decision(matches, shown, scores, in_words(matches, question, gallery, int(order[0])))


def _on_shares(
    asked: Matching,
    question: Question,
    gallery: Gallery,
    given: Inputs,
    dealer: DealerKind | None,
    samples: Path | None,
) -> tuple[dict[str, Any], Decision]:
    """Both parties compute the template, compare it and decide; the probe's owner gets the decision."""
    options = ModelOptions(asked.spell(), samples=samples)
    with err.status("load model and gallery"):
        loaded = options.load()
    shares = ShareOptions(_ON_SHARES[question.reveal], question.top)
    report, outputs = execute(Executor.SHARES, options, shares, dealer, loaded, given, None)
    revealed = outputs[0].ravel()
    if question.reveal is Told.SCORES:
        return report, _decide(revealed, question, gallery)
    body, _ = loaded.graph.body_and_tail()
    clear = run_plain(body, given.values).ravel()
    if question.reveal is Told.THRESHOLD:
        places, expected = np.flatnonzero(revealed > 0.5), np.flatnonzero(clear > 0.5)
        report["max_abs_error"] = None  # of bits
    else:
        places, expected = revealed.astype(np.int64), np.argsort(-clear, kind="stable")[: len(revealed)]
    count = len(gallery.labels)  # which as a place says that there is none
    found, report["plain_places"] = ([int(place) for place in each if place < count] for each in (places, expected))
    report["agrees_with_plain"] = found == report["plain_places"]
    return report, Decision(tuple(found), tuple(found), None, in_words(tuple(found), question, gallery))
