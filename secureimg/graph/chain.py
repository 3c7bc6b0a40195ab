"""Graphs one after another as one graph."""

from __future__ import annotations

import numpy as np

from secureimg.errors import GraphError
from secureimg.graph.graph import Graph, Node, Preprocessing
from secureimg.graph.ops import Affine, elements

__all__ = ["chain"]


def chain(first: Graph, second: Graph, *more: Graph, name: str | None = None) -> Graph:
    """Several graphs as one: each takes what the one before it gives.

    Parameters
    ----------
    first, second, *more : Graph
        In this order.
    name : str, optional
        Of the result; the names joined if not given.

    Returns
    -------
    Graph
        With the input and preprocessing of the first and the labels of the last. Nodes keep their names; one that an
        earlier graph has taken is called ``graph.node``.

    Raises
    ------
    GraphError
        If a graph does not take what the one before it gives, or ends in an op of the owner's (softmax, argmax) without
        being the last.

    Notes
    -----
    A later graph with preprocessing of its own takes values in [0, 1] and brings them to its mean and standard deviation
    here too, by an `Affine`. Drop it with ``graph.replace(preprocessing=None)`` where values are prepared already.
    """
    joined = first
    for graph in (second, *more):
        joined = _join(joined, graph)
    return joined if name is None else joined.replace(name=name)


def _join(first: Graph, second: Graph) -> Graph:
    _check(first, second)
    names = {second.input: first.output}
    nodes = list(first.nodes)
    used = set(first.shapes)

    def unused(wanted: str) -> str:
        result = f"{second.name}.{wanted}" if wanted in used else wanted
        while result in used or (result != wanted and result in second.shapes):
            result += "'"
        used.add(result)
        return result

    if second.preprocessing is not None and (prepared := _prepared(second.preprocessing, len(second.input_shape))):
        names[second.input] = unused("prepared")
        nodes.append(Node(names[second.input], prepared, (first.output,)))
    for node in second.nodes:
        names[node.name] = unused(node.name)
        nodes.append(Node(names[node.name], node.op, tuple(names[source] for source in node.inputs)))
    return first.replace(
        name=f"{first.name}, {second.name}",
        nodes=tuple(nodes),
        output=names[second.output],
        labels=second.labels,
        public=first.public and second.public,
    )


def _check(first: Graph, second: Graph) -> None:
    given, taken = first.output_shape, second.input_shape
    if given != taken:
        remedy = (
            f"both have {elements(given)} elements: end the first with a Reshape to {taken}"
            if elements(given) == elements(taken)
            else "build one of them for the other's shape"
        )
        raise GraphError(f"chain: {first.name!r} gives {given}, {second.name!r} takes {taken}; {remedy}")
    _, tail = first.body_and_tail()
    if tail and second.nodes:
        raise GraphError(
            f"chain: {first.name!r} ends in {', '.join(op.kind for op in tail)}, which only the owner computes, and "
            f"{second.name!r} would follow it: take the first graph's body_and_tail()[0]"
        )


def _prepared(preprocessing: Preprocessing, axes: int) -> Affine | None:
    """The scaling that preprocessing does, None if it does nothing."""
    shape = (-1, *(1,) * (axes - 1))
    scale = [1 / std for std in preprocessing.std]
    shift = [-mean / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)]
    if all(factor == 1.0 for factor in scale) and not any(shift):
        return None
    return Affine(np.reshape(scale, shape), np.reshape(shift, shape))
