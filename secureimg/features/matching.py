"""A private template against a gallery: distances, and decisions that do not tell them.

The gallery is the server's (party 1's): then it is the weights of the graph. Or it is the owner's own: on shares compile
the same graph with ``weights="shared"`` and hand the parties its shares, on CKKS (or on shares, once) give the functions an
`OwnGallery`: its templates are then rows of the input, behind the probe.

Definitions: `scipy.spatial.distance`.
"""

from __future__ import annotations

from typing import Literal

from numpy.typing import ArrayLike

from secureimg.errors import GraphError
from secureimg.features.galleries import Match, OwnGallery
from secureimg.graph import Graph

__all__ = [
    "Metric",
    "OwnGallery",
    "best_match",
    "cosine",
    "hamming",
    "ranking",
    "squared_euclidean",
    "threshold_match",
]

Metric = Literal["cosine", "sqeuclidean", "hamming"]
"""How alike a probe and a template are, by scipy's names."""


def squared_euclidean(gallery: ArrayLike | OwnGallery) -> Graph:
    """Squared Euclidean distance of a probe to each template.

    Parameters
    ----------
    gallery : array_like, shape (N, D), or OwnGallery
        A weight of the graph, or where the owner's own stands in the input.

    Returns
    -------
    Graph
        From (D,), or (1 + N, D), to (N,): `scipy.spatial.distance.cdist` with "sqeuclidean".

    Raises
    ------
    GraphError
        If the gallery is not a matrix.

    Notes
    -----
    CKKS: a square and a level; 10,000 templates of 128 values are 51 rotations and 295 kB down (own gallery: two levels).
    Shares: D squares and two linear layers, 4 rounds (own: N D squares, 2 rounds). Where only the order matters take
    `ranking`, where only a decision does `best_match` or `threshold_match`: they reveal less and cost less. Leaks N and D.
    """
    match = Match("squared euclidean", gallery, "sqeuclidean")
    return match.build(match.measure())


def cosine(
    gallery: ArrayLike | OwnGallery, *, normalized: bool = True, lengths: tuple[float, float] | None = None
) -> Graph:
    """Cosine similarity of a probe with each template: 1 for the same direction.

    Parameters
    ----------
    gallery : array_like, shape (N, D), or OwnGallery
        A given one is normalised here, in the clear, by whoever owns it.
    normalized : bool
        The owner gives vectors of length 1 (dividing them is its own, free, step). Otherwise they are normalised on shares.
    lengths : (float, float), optional
        Shortest and longest vector that is normalised on shares; at most 64 times apart. If not given, what samples show.

    Returns
    -------
    Graph
        From (D,), or (1 + N, D), to (N,): 1 minus `scipy.spatial.distance.cdist` with "cosine".

    Raises
    ------
    GraphError
        If the gallery is not a matrix, a template is 0, or the lengths do not fit.

    Notes
    -----
    CKKS: one level; 10,000 templates of 128 values are 46 rotations and 640 products, one ciphertext up, 205 kB down (own
    gallery: a square and two levels). CKKS cannot normalise. Shares: one linear layer, 1 round (own: N D squares, 2 rounds);
    normalising adds some 10 rounds. Agrees with the clear to about 1e-4 on shares, 2e-3 where lengths span 64. Leaks N and
    D.

    Deviation: vectors said to be normalised are taken at their word. Of others the result is the dot product with the
    normalised template, with an own gallery 1 minus half the squared distance.
    """
    match = Match("cosine", gallery, "cosine", normalized=normalized, lengths=lengths)
    return match.build(match.measure())


def hamming(gallery: ArrayLike | OwnGallery) -> Graph:
    """Number of bits in which a probe differs from each template.

    Parameters
    ----------
    gallery : array_like of 0 and 1, shape (N, D), or OwnGallery
        The probe, too, is 0 and 1 (iris codes, binary descriptors).

    Returns
    -------
    Graph
        From (D,), or (1 + N, D), to (N,): D times `scipy.spatial.distance.cdist` with "hamming".

    Raises
    ------
    GraphError
        If the gallery is not a matrix of 0 and 1.

    Notes
    -----
    CKKS: one level (own gallery: a square and two levels). Shares: one linear layer, 1 round, exact (own: N D squares, 2
    rounds). Leaks N and D.

    Deviation: a count, where scipy gives the part of D, so that shares hold it exactly.
    """
    match = Match("hamming", gallery, "hamming")
    return match.build(match.measure())


def ranking(
    gallery: ArrayLike | OwnGallery,
    metric: Metric = "cosine",
    *,
    normalized: bool = True,
    lengths: tuple[float, float] | None = None,
    labels: tuple[str, ...] | None = None,
) -> Graph:
    """Scores in the order of a metric, the best match the largest: for ``sharing.compile(..., reveal="top-k")``.

    Parameters
    ----------
    gallery, normalized, lengths
        As of `cosine`.
    metric : str
        "cosine", "sqeuclidean" or "hamming".
    labels : tuple of str, optional
        Names of the templates. They are part of the public program.

    Returns
    -------
    Graph
        To (N,). The similarity or negated distance, without what is the same for every template: linear in the probe for
        every metric (but "cosine" with ``normalized=False``).

    Raises
    ------
    GraphError
        As the metrics' functions.

    Notes
    -----
    Shares with ``reveal="top-k"`` and ``top=k``: the owner learns the k places in their order and nothing else, the parties
    nothing. Templates whose scores differ by less than some 2^-14 may change places. On CKKS the owner decrypts all scores.
    """
    match = Match("ranking", gallery, metric, normalized=normalized, lengths=lengths)
    return match.build(match.order(), labels)


def best_match(
    gallery: ArrayLike | OwnGallery,
    metric: Metric = "cosine",
    *,
    threshold: float | None = None,
    normalized: bool = True,
    lengths: tuple[float, float] | None = None,
    labels: tuple[str, ...] | None = None,
) -> Graph:
    """Place of the most alike template; the place after the last if none is alike enough.

    Parameters
    ----------
    gallery, metric, normalized, lengths, labels
        As of `ranking`.
    threshold : float, optional
        Least similarity, or largest distance, of a match. With one, N is the answer where no template is that near.

    Returns
    -------
    Graph
        To (): the place, found by the owner (`ArgMax`) where scores are decrypted. On shares compile it with
        ``reveal="label"``: the parties find the place, and neither they nor the owner learn a score.

    Raises
    ------
    GraphError
        As the metrics' functions; if there is but one template and no threshold.

    Notes
    -----
    Shares with ``reveal="label"``: 43 rounds for 10,000 templates, 0.5 MB of correlations. The owner learns the place, the
    parties nothing. On CKKS the owner decrypts all scores. The place is wrong only between templates whose scores differ by
    less than some 2^-14.
    """
    match = Match("best match", gallery, metric, normalized=normalized, lengths=lengths)
    if match.count == 1 and threshold is None:
        raise GraphError("best_match: one template is always the best: pass a threshold, or take threshold_match")
    scores = match.order() if threshold is None else match.order_or_none(threshold)
    return match.build(match.b.argmax(scores), labels, none=threshold is not None)


def threshold_match(
    gallery: ArrayLike | OwnGallery,
    metric: Metric = "cosine",
    *,
    threshold: float,
    normalized: bool = True,
    lengths: tuple[float, float] | None = None,
    labels: tuple[str, ...] | None = None,
) -> Graph:
    """A bit for each template: 1 where it is at least as alike as the threshold. With one template: verification.

    Parameters
    ----------
    gallery, metric, normalized, lengths, labels
        As of `ranking`.
    threshold : float
        Least cosine similarity, or largest distance.

    Returns
    -------
    Graph
        To (N,), 0 or 1. Shares only: a comparison is no polynomial.

    Raises
    ------
    GraphError
        As the metrics' functions.

    Notes
    -----
    Shares: N comparisons, 3 to 5 rounds more than the measure. The owner learns the bits and no score, the parties
    nothing. A bit may be wrong where the score is within some 2^-14 of the threshold (relative to the largest score for
    "sqeuclidean"); "hamming" is exact.
    """
    match = Match("threshold match", gallery, metric, normalized=normalized, lengths=lengths)
    limit = match.limit(threshold)
    over = match.b.affine(match.measure(), 1.0 if metric == "cosine" else -1.0, limit)
    return match.build(match.b.step(over), labels)
