"""Pictures as short vectors: principal components (eigenfaces), and networks without their classifier.

Eigenfaces: Turk and Pentland, Journal of Cognitive Neuroscience 1991; in the form of `sklearn.decomposition.PCA`.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secureimg.errors import GraphError
from secureimg.graph import Graph, GraphBuilder, Node, Reshape
from secureimg.graph.ops import FloatArray, elements

__all__ = ["PrincipalComponents", "embedding", "fit_pca", "pca_projection"]

_NEGLIGIBLE = 1e-12


@dataclass(frozen=True, eq=False)
class PrincipalComponents:
    """What `fit_pca` found.

    Attributes
    ----------
    components : ndarray, shape (count, D)
        Orthogonal rows of length 1, the one with the largest variance first.
    mean : ndarray, shape (D,)
    variances : ndarray, shape (count,)
        Of the training pictures along each component.
    """

    components: FloatArray
    mean: FloatArray
    variances: FloatArray


def fit_pca(images: ArrayLike, count: int) -> PrincipalComponents:
    """Principal components of a set of pictures, in the clear: for whoever owns that set.

    Parameters
    ----------
    images : array_like, shape (N, ...)
        Flattened to N vectors of D elements.
    count : int
        Components wanted, 1 to the smaller of N - 1 and D.

    Returns
    -------
    PrincipalComponents
        As of `sklearn.decomposition.PCA`: variances over N - 1, the largest element of each component above 0.

    Raises
    ------
    GraphError
        If there are not enough pictures for `count`, or an element is not finite.
    """
    array = np.asarray(images, dtype=np.float64)
    if array.ndim < 2 or not array.size:
        raise GraphError(f"fit_pca: takes a stack of pictures (N, ...), got shape {array.shape}")
    vectors = array.reshape(len(array), -1)
    if not np.isfinite(vectors).all():
        raise GraphError("fit_pca: the pictures hold NaN or infinite values; leave those out")
    most = min(len(vectors) - 1, vectors.shape[1])
    if not 1 <= count <= most:
        raise GraphError(
            f"fit_pca: {count} components of {len(vectors)} pictures of {vectors.shape[1]} elements, the limits are 1 and "
            f"{most}: ask for fewer or bring more pictures"
        )
    mean = vectors.mean(axis=0)
    _, lengths, rows = np.linalg.svd(vectors - mean, full_matrices=False)
    components = rows[:count]
    largest = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(count), largest])[:, None]
    return PrincipalComponents(components, mean, lengths[:count] ** 2 / (len(vectors) - 1))


def pca_projection(
    shape: tuple[int, ...],
    components: ArrayLike,
    mean: ArrayLike,
    whiten: bool = False,
    *,
    variances: ArrayLike | None = None,
) -> Graph:
    """Projection of a picture on principal components (eigenfaces).

    Parameters
    ----------
    shape : (H, W), (C, H, W) or (D,)
        Of the picture, which a (H, W) becomes (1, H, W), or of a vector of features.
    components : array_like, shape (K, D)
        D is the number of elements of the picture.
    mean : array_like, shape (D,) or the picture's
    whiten : bool
        Divide each coordinate by its standard deviation.
    variances : array_like, shape (K,), optional
        Along each component; only for `whiten`.

    Returns
    -------
    Graph
        Result (K,): that of ``sklearn.decomposition.PCA(whiten=whiten).transform``.

    Raises
    ------
    GraphError
        If shapes do not fit, or variances are missing or not above 0.

    Notes
    -----
    CKKS: one level. Shares: one linear layer, one round. Leaks nothing but shapes; components and mean are weights, known
    to the server or party 1 (they are made of the training pictures, and may show them).
    """
    taken = (1, *shape) if len(shape) == 2 else tuple(shape)
    if len(taken) not in (1, 3) or min(taken) < 1:
        raise GraphError(f"pca_projection: shape {shape} is none of (H, W), (C, H, W), (D,) with positive sides")
    size = elements(taken)
    matrix, middle = np.asarray(components, dtype=np.float64), np.asarray(mean, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] != size or middle.size != size:
        raise GraphError(
            f"pca_projection: components {matrix.shape} and mean {middle.shape} do not fit the {size} elements of {taken}: "
            f"they must be (K, {size}) and ({size},)"
        )
    if whiten:
        matrix = matrix / np.sqrt(_checked_variances(variances, len(matrix)))[:, None]
    b = GraphBuilder("pca projection", taken)
    x = b.flatten(b.input) if len(taken) > 1 else b.input
    return b.build(b.dense(x, matrix, -matrix @ middle.reshape(-1)))


def _checked_variances(variances: ArrayLike | None, count: int) -> NDArray[np.float64]:
    if variances is None:
        raise GraphError("pca_projection: whitening needs the variances along the components: pass variances=")
    array = np.asarray(variances, dtype=np.float64)
    if array.shape != (count,) or not (array > _NEGLIGIBLE * array.max(initial=0.0)).all():
        raise GraphError(
            f"pca_projection: variances of shape {array.shape}, the least {array.min(initial=np.inf):.3g}: whitening needs "
            f"one above 0 for each of the {count} components; leave those without variance out"
        )
    return array


def embedding(graph: Graph, layer: str, *, flatten: bool = True) -> Graph:
    """A network cut at a layer: what follows it, such as a classifier, goes.

    Parameters
    ----------
    graph : Graph
    layer : str
        Name of the value that is wanted; `Graph.describe` lists them.
    flatten : bool
        Give a vector, as the functions of `secureimg.features.matching` take.

    Returns
    -------
    Graph
        With the preprocessing of the network and without its labels.

    Raises
    ------
    GraphError
        If there is no such layer (names the nearest ones), or it is the input, or the owner's to compute.

    Notes
    -----
    Costs on every executor what the network costs up to the layer. Whoever learns an embedding learns a good deal of the
    picture: hand it on as shares (``reveal="shares"``), or chain the matching behind it, where nobody should.
    """
    if layer == graph.input or layer not in graph.shapes:
        names = [node.name for node in graph.nodes]
        nearest = difflib.get_close_matches(layer, names, n=5, cutoff=0.4) or names[-5:]
        wrong = "is the input" if layer == graph.input else "does not exist"
        raise GraphError(f"embedding: layer {layer!r} of {graph.name!r} {wrong}; near it: {', '.join(nearest)}")
    last = graph.node(layer)
    if last.op.owner:
        raise GraphError(
            f"embedding: layer {layer!r} of {graph.name!r} is a {last.op.kind}, which the owner computes in the clear: cut "
            f"at {last.inputs[0]!r}, in front of it"
        )
    nodes, output = list(graph.needed(layer)), layer
    if flatten and len(graph.shapes[layer]) != 1:
        output = "embedding"
        while output in graph.shapes:
            output += "'"
        nodes.append(Node(output, Reshape((elements(graph.shapes[layer]),)), (layer,)))
    return graph.replace(name=f"{graph.name} to {layer}", nodes=tuple(nodes), output=output, labels=None)
