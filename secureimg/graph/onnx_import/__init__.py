"""ONNX files as graphs."""

from __future__ import annotations

from pathlib import Path

from secureimg.graph.graph import Graph
from secureimg.graph.onnx_import.reader import MAX_BYTES, read_model
from secureimg.graph.onnx_import.translate import SUPPORTED, translate

__all__ = ["MAX_BYTES", "SUPPORTED", "load_onnx"]


def load_onnx(source: str | Path | bytes, *, max_bytes: int = MAX_BYTES) -> Graph:
    """Import an ONNX model.

    Opsets 7 to the newest that the installed `onnx` package knows, as PyTorch (both exporters), tf2onnx and CNTK write
    them. The file is untrusted: its size and the sizes it declares are capped, nothing outside it is opened, nothing
    in it is executed.

    Parameters
    ----------
    source : path or bytes
        The file, or what is in it.
    max_bytes : int
        Largest file to read.

    Returns
    -------
    Graph
        Its values are named as in the file. The first axis of the file's tensors, for the batch, is gone. Input
        and output are as the file has them otherwise: an input of (N, H, W, C) stays (H, W, C).

    Raises
    ------
    UnsupportedModelError
        With every node, input or initializer that cannot be imported: name, type and what to do.
    GraphError
        If the file is not ONNX, contradicts itself, or is above a cap.
    """
    return translate(read_model(source, max_bytes))
