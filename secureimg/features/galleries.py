"""A probe and a gallery in a graph: either a weight and an input, or both in the input."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from secureimg.errors import GraphError
from secureimg.graph import Clip, Graph, GraphBuilder, Slice
from secureimg.graph.ops import FloatArray

__all__ = ["Match", "OwnGallery"]

_METRICS = ("cosine", "sqeuclidean", "hamming")
_ERROR = 2.0**-12  # of an inverse length: there are few of them, so a fine curve costs next to nothing
_LARGEST_RATIO = 64.0  # of lengths: a root on shares spans the square of it


@dataclass(frozen=True)
class OwnGallery:
    """A gallery that comes with the probe: the input is (1 + count, size), the probe its first row.

    Attributes
    ----------
    count : int
        Templates.
    size : int
        Values of each.
    """

    count: int
    size: int

    def __post_init__(self) -> None:
        if min(self.count, self.size) < 1:
            raise GraphError(f"OwnGallery: {self.count} templates of {self.size} values, both must be at least 1")


class Match:
    """A graph in the making: the probe, the gallery in it or beside it, and what is computed of the two."""

    def __init__(
        self,
        name: str,
        gallery: ArrayLike | OwnGallery,
        metric: str,
        *,
        normalized: bool = True,
        lengths: tuple[float, float] | None = None,
    ) -> None:
        self.name, self.metric, self.normalized = name, metric, normalized
        if metric not in _METRICS:
            raise GraphError(f"{name}: metric {metric!r} is none of {', '.join(map(repr, _METRICS))}")
        self.own = isinstance(gallery, OwnGallery)
        if isinstance(gallery, OwnGallery):
            self.count, self.size = gallery.count, gallery.size
            self.templates: FloatArray = np.zeros((0, self.size))
        else:
            self.templates = self._checked_gallery(gallery)
            self.count, self.size = self.templates.shape
        self.squared_lengths = self._checked_lengths(lengths)
        self.b = GraphBuilder(name, (1 + self.count, self.size) if self.own else (self.size,))

    def _checked_gallery(self, gallery: ArrayLike) -> FloatArray:
        array = np.asarray(gallery, dtype=np.float64)
        if array.ndim != 2 or 0 in array.shape:
            raise GraphError(f"{self.name}: a gallery has the shape (N, D), got {array.shape}")
        if not np.isfinite(array).all():
            raise GraphError(f"{self.name}: the gallery holds NaN or infinite values; enrol those templates again")
        if self.metric == "hamming" and not np.isin(array, (0.0, 1.0)).all():
            raise GraphError(f"{self.name}: a gallery for the Hamming distance holds 0 and 1 only; binarise it first")
        if self.metric == "cosine":
            norms = np.linalg.norm(array, axis=1)
            if not norms.all():
                raise GraphError(
                    f"{self.name}: template {int(norms.argmin())} is all 0 and has no direction; leave it out"
                )
            array = array / norms[:, None]
        return array

    def _checked_lengths(self, lengths: tuple[float, float] | None) -> tuple[float | None, float | None]:
        """Range of the mean of the squares of a vector."""
        if lengths is None:
            return None, None
        low, high = lengths
        if self.normalized or self.metric != "cosine":
            raise GraphError(f"{self.name}: lengths {lengths} are for the cosine of vectors with normalized=False")
        if not 0 < low < high <= _LARGEST_RATIO * low or not math.isfinite(high):
            raise GraphError(
                f"{self.name}: lengths from {low} to {high}: the lower must be above 0 and the higher at most "
                f"{_LARGEST_RATIO:g} times as large; scale vectors in the clear where they differ more"
            )
        return low**2 / self.size, high**2 / self.size

    def limit(self, threshold: float) -> float:
        """Minus the threshold of a similarity; that of a distance, for bits halfway to the next count."""
        if not math.isfinite(threshold):
            raise GraphError(f"{self.name}: the threshold {threshold} is not finite")
        if self.metric == "hamming":
            return math.floor(threshold) + 0.5  # a rounding on the way then decides nothing
        return -float(threshold) if self.metric == "cosine" else float(threshold)

    def build(self, value: str, labels: tuple[str, ...] | None = None, *, none: bool = False) -> Graph:
        """The graph that ends in a value; `none`: which has a place for "no match" behind the templates."""
        if labels is not None and len(labels) != self.count:
            raise GraphError(f"{self.name}: {len(labels)} labels for {self.count} templates: give one for each")
        return self.b.build(value, labels=(*labels, "none") if labels is not None and none else labels)

    # ---------------------------------------------------------------------------------------------- what goes into it

    def _row(self, value: str) -> str:
        """The probe in front of an own gallery, in the input or what was made of it: (1, D)."""
        return self.b.apply(Slice((0, 0), (1, self.size), (1, 1)), value)

    def _rows(self, value: str) -> str:
        """An own gallery, likewise: (N, D)."""
        return self.b.apply(Slice((1, 0), (self.count, self.size), (1, 1)), value)

    def _repeated(self, value: str, factor: float = 1.0) -> str:
        """One number, (1,) or (1, D), for each template: (N,) or (N, D)."""
        shape = (self.count, *(1,) * (len(self.b.shape(value)) - 1))
        return self.b.affine(value, np.full(shape, factor))

    def _sums(self, value: str) -> str:
        """Sums of the rows."""
        return self.b.affine(self.b.mean(value, (1,), keepdims=False), float(self.size))

    # ------------------------------------------------------------------------------------------------------- measures

    def measure(self) -> str:
        """The similarity or distance itself."""
        if self.metric == "cosine":
            return self._cosines()
        if self.metric == "hamming" and not self.own:
            return self.b.dense(self.b.input, 1.0 - 2.0 * self.templates, self.templates.sum(axis=1))
        return self._squares()  # of bits, too: they differ by 0, 1 or -1

    def order(self) -> str:
        """Scores, the most alike the largest: the similarity, or the negated distance without what all have in common."""
        if self.metric == "sqeuclidean" and not self.own:
            return self.b.dense(self.b.input, 2.0 * self.templates, -np.square(self.templates).sum(axis=1))
        return self.measure() if self.metric == "cosine" else self.b.affine(self.measure(), -1.0)

    def order_or_none(self, threshold: float) -> str:
        """`order`, and behind it the score below which there is no match."""
        limit, scores = self.limit(threshold), self.order()
        if self.metric == "sqeuclidean" and not self.own:
            none = self.b.affine(self._energy(), float(self.size), -limit)
            return self.b.concat(scores, none)
        return self.b.pad(scores, ((0, 1),), -limit)

    def _energy(self) -> str:
        """Mean of the squares of the probe: (1,)."""
        return self.b.mean(self.b.square(self.b.input), (0,))

    def _squares(self) -> str:
        b = self.b
        if self.own:
            return self._sums(b.square(b.subtract(self._repeated(self._row(b.input)), self._rows(b.input))))
        products = b.dense(b.input, -2.0 * self.templates, np.square(self.templates).sum(axis=1))
        return b.add(products, self._repeated(self._energy(), float(self.size)))

    def _cosines(self) -> str:
        if self.own:
            return self._own_cosines()
        b = self.b
        if self.normalized:
            return b.dense(b.input, self.templates)
        even, gain = self._evened()
        inverse = self._inverse_roots(b.mean(b.square(even), (0,)), gain)
        unit = b.multiply(even, b.affine(inverse, np.ones(self.size)))
        return b.dense(unit, self.templates / math.sqrt(self.size))

    def _evened(self) -> tuple[str, float]:
        """The input times a power of two that makes the longest vectors' values some 4, if lengths are known; and that."""
        _, high = self.squared_lengths
        gain = 1.0 if high is None else 2.0 ** round(math.log2(4.0 / math.sqrt(high)))
        return self.b.affine(self.b.input, gain), gain

    def _inverse_roots(self, energies: str, gain: float) -> str:
        """1 / sqrt of a few numbers: a curve, then, of known sizes, a step of Newton's method: rounding is what is left."""
        b, (low, high) = self.b, self.squared_lengths
        if low is None or high is None:
            return b.inverse_sqrt(energies, error=_ERROR)
        near = b.inverse_sqrt(energies, gain**2 * low, gain**2 * high, error=_ERROR)
        squares = b.multiply(b.multiply(near, energies), near)
        squares = b.apply(Clip(0.5, 1.5), squares)  # it is near 1, but no proof of bounds sees that
        return b.multiply(near, b.affine(squares, -0.5, 1.5))

    def _own_cosines(self) -> str:
        b = self.b
        if self.normalized:  # of unit vectors a square says it, which on every executor is cheaper than a product
            return b.affine(self._squares(), -0.5, 1.0)
        even, gain = self._evened()
        products = b.multiply(self._repeated(self._row(even)), self._rows(even))
        energies = b.mean(b.square(even), (1,), keepdims=False)
        inverse = self._inverse_roots(energies, gain)
        probe = b.apply(Slice((0,), (1,), (1,)), inverse)
        gallery = b.apply(Slice((1,), (self.count,), (1,)), inverse)
        scaled = b.multiply(b.mean(products, (1,), keepdims=False), gallery)
        return b.multiply(scaled, self._repeated(probe))
