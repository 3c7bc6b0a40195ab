"""Graphs that match a probe with a gallery, as a text that any command takes as its MODEL.

``gallery:DECISION[,KEY=VALUE...]:FILE``, where DECISION is ``best``, ``top-k``, ``threshold`` or ``scores`` and keys are

* ``threshold``: least similarity or largest distance of a match (``best``, ``threshold``)
* ``probe``: ``picture`` (the default: the gallery's model is part of the graph) or ``template`` (its owner has run it)
* ``model``: where the gallery's model is now, percent-encoded

So the gallery's owner can be party 1, or a server, with its file and nothing more: ``model.name = "gallery:best:FILE"``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from protocols.galleries import Gallery, read_gallery
from protocols.pictures import prepare_picture
from protocols.preparation import preparation_of
from secureimg.errors import GraphError, SecureImgError
from secureimg.features import (
    PREFIX,
    best_match,
    build,
    cosine,
    embedding,
    ranking,
    squared_euclidean,
    threshold_match,
)
from secureimg.graph import Graph, chain, load_model, run_plain
from secureimg.sharing.bounds import made_pictures

__all__ = [
    "GALLERY_PREFIX",
    "Decision",
    "Matching",
    "checked_template_graph",
    "digest_of",
    "gallery_samples",
    "load_graph",
    "matching_graph",
    "template_graph",
    "templates_of",
]

Decision = Literal["best", "top-k", "threshold", "scores"]
Array = NDArray[np.float64]

GALLERY_PREFIX: Final = "gallery:"
_DECISIONS: Final = ("best", "top-k", "threshold", "scores")
_KEYS: Final = ("threshold", "probe", "model")
_ROOM: Final = 2.0  # a probe may be this much shorter or longer than every enrolled picture
_WIDEST: Final = 64.0  # what normalising on shares spans
_SAMPLES: Final = 16


@dataclass(frozen=True)
class Matching:
    """What is asked of a gallery.

    Attributes
    ----------
    file : Path
        The gallery.
    decision : str
    threshold : float or None
    probe : str
        "picture" or "template".
    model : str or None
        Instead of the gallery's text for its model; it must be the same graph.
    """

    file: Path
    decision: Decision
    threshold: float | None = None
    probe: Literal["picture", "template"] = "picture"
    model: str | None = None

    def spell(self) -> str:
        """Return the text that `parse` reads."""
        words: list[str] = [self.decision]
        if self.threshold is not None:
            words.append(f"threshold={self.threshold!r}")
        if self.probe != "picture":
            words.append(f"probe={self.probe}")
        if self.model is not None:
            words.append(f"model={quote(self.model, safe='')}")
        return f"{GALLERY_PREFIX}{','.join(words)}:{self.file}"

    @classmethod
    def parse(cls, text: str) -> Matching:
        """Read such a text.

        Raises
        ------
        GraphError
            If it is not one.
        """
        question, colon, file = text.removeprefix(GALLERY_PREFIX).partition(":")
        decision, *words = question.split(",")
        given = dict(word.partition("=")[::2] for word in words)
        if not colon or not file or decision not in _DECISIONS or not set(given) <= set(_KEYS):
            raise GraphError(
                f"{text!r} is not gallery:DECISION:FILE: DECISION is one of {', '.join(_DECISIONS)}, and may be followed by "
                f",KEY=VALUE with a KEY of {', '.join(_KEYS)}"
            )
        probe = given.get("probe", "picture")
        if probe not in ("picture", "template"):
            raise GraphError(f"{text!r}: probe={probe} is neither picture nor template")
        model = unquote(given["model"]) if "model" in given else None
        threshold = _number(given["threshold"], text) if "threshold" in given else None
        return cls(Path(file), cast("Decision", decision), threshold, cast("Any", probe), model)


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise GraphError(f"{where!r}: threshold={text} is not a number") from None


def load_graph(text: str) -> Graph:
    """Load what a command's MODEL names: a feature, a gallery's question, a shipped model or an .onnx file."""
    if text.startswith(PREFIX):
        return build(text)
    if text.startswith(GALLERY_PREFIX):
        question = Matching.parse(text)
        return matching_graph(question, read_gallery(question.file))
    return load_model(text)


# ------------------------------------------------------------------------------------------------- pictures to templates


def template_graph(model: str, layer: str | None) -> Graph:
    """From picture to template: a model, cut at a layer if one is named, without what its owner computes."""
    if model.startswith(GALLERY_PREFIX):
        raise SecureImgError(f"model {model!r} matches templates and makes none: name a model of pictures")
    graph = load_graph(model)
    body, _ = graph.body_and_tail()
    return embedding(body, body.output if layer is None else layer)


def digest_of(graph: Graph) -> str:
    """Return what tells whether a model is still the one that made a gallery, whatever it is called."""
    return graph.replace(name="template").fingerprint


def checked_template_graph(gallery: Gallery, model: str | None) -> Graph:
    """Load the model of a gallery.

    Raises
    ------
    SecureImgError
        If it cannot be loaded, or is not the one that made the templates.
    """
    text = model or gallery.model
    try:
        graph = template_graph(text, gallery.layer)
    except SecureImgError as error:
        if model is not None:
            raise
        raise type(error)(f"the gallery's model: {error}; if it has moved, say where with --model") from None
    if digest_of(graph) != gallery.digest:
        raise SecureImgError(
            f"model {text!r} is not the one that made this gallery (digest {digest_of(graph)[:12]}, the gallery's is "
            f"{gallery.digest[:12]}): templates of two models do not compare; name the old one with --model, or enrol again"
        )
    return graph


def templates_of(graph: Graph, values: Array, metric: str, names: tuple[str, ...]) -> tuple[Array, Array]:
    """Compute templates in the clear.

    Returns
    -------
    (N, D) and (N,)
        For the cosine, templates of length 1; and the lengths they had.

    Raises
    ------
    SecureImgError
        If a template has no direction.
    """
    templates = run_plain(graph, values).reshape(len(values), -1)
    lengths = np.linalg.norm(templates, axis=1)
    if not np.isfinite(lengths).all():
        raise SecureImgError(
            f"{names[int(np.isfinite(lengths).argmin())]}: its template is not finite: try another model"
        )
    if metric == "cosine":
        if not lengths.all():
            raise SecureImgError(
                f"{names[int(lengths.argmin())]}: its template is all 0 and has no direction: is the picture empty?"
            )
        templates = templates / lengths[:, None]
    return templates, lengths


# ------------------------------------------------------------------------------------------------------------- matching


def matching_graph(question: Matching, gallery: Gallery) -> Graph:
    """The graph of a question: from a picture, or a template, to the decision."""
    template = checked_template_graph(gallery, question.model)
    picture = question.probe == "picture"
    rows = gallery.templates.astype(np.float64)
    given: dict[str, Any] = {}
    if picture and gallery.metric == "cosine":
        given = {"normalized": False, "lengths": _lengths(gallery)}
    if question.decision == "scores":
        graph = cosine(rows, **given) if gallery.metric == "cosine" else squared_euclidean(rows)
    elif question.decision == "best":
        graph = best_match(rows, gallery.metric, threshold=question.threshold, **given)
    elif question.decision == "top-k":
        graph = ranking(rows, gallery.metric, **given)
    elif question.threshold is None:
        raise GraphError("threshold: which one? write it like gallery:threshold,threshold=0.8:FILE")
    else:
        graph = threshold_match(rows, gallery.metric, threshold=question.threshold, **given)
    return chain(template, graph) if picture else graph


def _lengths(gallery: Gallery) -> tuple[float, float]:
    """How short and long a probe's template may be where it is normalised on shares."""
    low, high = gallery.lengths[0] / _ROOM, gallery.lengths[1] * _ROOM
    return max(low, high / _WIDEST), high


def gallery_samples(text: str) -> Array | None:
    """Pictures to measure ranges on: the gallery's thumbnails; without any, made ones that have a template.

    Shape (at most 16, *input_shape). None for a probe that is a template.
    """
    question = Matching.parse(text)
    if question.probe == "template":
        return None
    gallery = read_gallery(question.file)
    graph = checked_template_graph(gallery, question.model)
    if gallery.thumbnails is not None:
        chosen = np.linspace(0, len(gallery.labels) - 1, min(_SAMPLES, len(gallery.labels))).round().astype(int)
        shape, wanted = graph.input_shape, preparation_of(graph)
        pictures = [gallery.thumbnails[place] / 255.0 for place in chosen]
        return np.stack([prepare_picture(picture, shape, wanted, "a thumbnail") for picture in pictures])
    low, high = graph.preprocessing.range if graph.preprocessing else (0.0, 1.0)
    made = made_pictures(graph.input_shape, low, high)
    if gallery.metric != "cosine":
        return made
    shortest, longest = _lengths(gallery)
    sizes = np.linalg.norm(run_plain(graph, made), axis=1)
    fitting: Array = made[(sizes >= shortest) & (sizes <= longest) & np.isfinite(sizes)]
    if not len(fitting):
        raise SecureImgError(
            "the gallery has no thumbnails to measure the model's ranges on: give typical inputs with --samples FILE.npy"
        )
    return fitting
