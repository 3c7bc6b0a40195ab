"""Classifiers for small albums: what the parrot attack chooses among."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.linalg import cho_factor, cho_solve

__all__ = ["Candidate", "LinearDiscriminant", "candidates", "describe", "ranked", "rows_of"]

_SIDES: Final = (7, 14, 28)
_SHRINKAGE: Final = 0.1
_COLOUR_SIDE: Final = 7
_MOST_VALUES: Final = 400  # more are projected on their principal components
_COMPONENTS: Final = 200
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Candidate:
    """A classifier on values of a certain size.

    Attributes
    ----------
    kind : {"lda", "svm"}
    side : int or None
        Pixels on the longer side that pictures are brought to; None: published values as they are.
    levelled : bool
        Whether each picture is brought to mean 0 and deviation 1 first, which takes lighting out.
    """

    kind: Literal["lda", "svm"]
    side: int | None
    levelled: bool = False


class LinearDiscriminant:
    """Linear discriminant analysis with a covariance that is drawn towards a multiple of the identity.

    That of scikit-learn (solver lsqr, shrinkage 0.1), solved by Cholesky's factors instead of singular values: ten times as
    fast for 784 values.
    """

    def fit(self, rows: NDArray[Any], labels: NDArray[np.int64]) -> LinearDiscriminant:
        """Train on rows (N, D)."""
        self.classes_, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
        rows = rows.astype(np.float64)
        means = np.zeros((len(counts), rows.shape[1]))
        np.add.at(means, places, rows)
        means /= counts[:, None]
        inside = rows - means[places]
        covariance = inside.T @ inside / len(rows)
        level = max(float(np.trace(covariance)) / len(covariance), 1e-12)
        covariance *= 1 - _SHRINKAGE
        covariance[np.diag_indices_from(covariance)] += _SHRINKAGE * level
        self._weights = cho_solve(cho_factor(covariance), means.T)
        self._levels = np.log(counts / len(rows)) - 0.5 * np.einsum("cd,dc->c", means, self._weights)
        return self

    def decision_function(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Return scores (N, classes)."""
        scores: NDArray[np.float64] = rows @ self._weights + self._levels
        return scores


def candidates(shape: tuple[int, ...], is_picture: bool) -> list[Candidate]:
    """Return what is worth trying on published values of a shape."""
    sides: list[int | None] = [None]
    if is_picture:
        longest = max(shape[:2])
        sides = [side for side in _SIDES if side < longest] or [longest]
        if longest <= _SIDES[-1] and longest not in sides:
            sides.append(longest)
    kinds: tuple[Literal["lda", "svm"], ...] = ("lda", "svm")
    found = [Candidate(kind, side) for side in sides for kind in kinds]
    return found + [Candidate(kind, side, levelled=True) for side in sides[1:2] for kind in kinds]


def describe(choice: Candidate) -> str:
    """Return a classifier in words."""
    name = {"lda": "linear discriminant analysis", "svm": "support vector machine"}[choice.kind]
    if choice.side is None:
        return f"{name} on the published values"
    return f"{name} at {choice.side} pixels" + (", lighting taken out" if choice.levelled else "")


def rows_of(choice: Candidate, tables: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows for a classifier: luma at its side, and the difference of the colours from it, coarsely.

    Parameters
    ----------
    choice : Candidate
    tables : (N, ...) float32
        Published pictures or values.
    """
    if choice.side is None:
        return tables.reshape(len(tables), -1)
    luma = tables if tables.ndim == 3 else tables @ _LUMA
    parts = [_small(luma, choice.side)]
    if tables.ndim == 4:
        parts += [_small(tables[..., channel] - luma, min(choice.side, _COLOUR_SIDE)) for channel in (0, 2)]
    rows = np.concatenate(parts, axis=1)
    if choice.levelled:
        rows = (rows - rows.mean(axis=1, keepdims=True)) / (rows.std(axis=1, keepdims=True) + 1e-3)
    return rows


def ranked(
    choice: Candidate, rows: NDArray[np.float32], labels: NDArray[np.int64], asked: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Train on rows, and return the labels for each row that is asked about, the likeliest first: (N, labels)."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    steps: list[Any] = []
    if choice.side is None:
        steps.append(StandardScaler())
        if rows.shape[1] > _MOST_VALUES:
            solver = "full" if len(rows) < rows.shape[1] else "covariance_eigh"
            steps.append(PCA(min(_COMPONENTS, len(rows) - 1), svd_solver=solver))
    if choice.kind == "svm":
        steps.append(StandardScaler())
    for step in steps:
        rows = step.fit_transform(rows)
        asked = step.transform(asked)
    model: Any = LinearDiscriminant() if choice.kind == "lda" else SVC(C=10.0, gamma="scale", cache_size=500)
    model.fit(rows, labels)
    scores = np.asarray(model.decision_function(asked))
    if scores.ndim == 1:  # of two labels
        scores = np.stack([-scores, scores], axis=1)
    order: NDArray[np.int64] = model.classes_[np.argsort(-scores, axis=1, kind="stable")]
    return order


def _small(tables: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    return np.stack([_shrunk(table, side).ravel() for table in tables])


def _shrunk(table: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    height, width = table.shape
    scale = side / max(height, width)
    if scale >= 1:
        return table
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(np.ascontiguousarray(table)).resize(size, Image.Resampling.BOX))
