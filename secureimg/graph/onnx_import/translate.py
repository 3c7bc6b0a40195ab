"""The walk over a file's nodes that makes the graph, or one error with everything that stands in the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.helper

from secureimg.errors import GraphError, UnsupportedModelError
from secureimg.graph.graph import Graph
from secureimg.graph.onnx_import import arithmetic, pointwise, shaping, windows
from secureimg.graph.onnx_import.folding import FOLDED, fold, shape_of
from secureimg.graph.onnx_import.reader import Foreign, Model, decode_tensor
from secureimg.graph.onnx_import.values import Const, Emitter, Handler, NodeView, Refused, Value
from secureimg.graph.ops import MAX_ELEMENTS, elements

__all__ = ["SUPPORTED", "translate"]

_HANDLERS: dict[str, Handler] = {
    **arithmetic.HANDLERS,
    **pointwise.HANDLERS,
    **shaping.HANDLERS,
    **windows.HANDLERS,
}

SUPPORTED: tuple[str, ...] = tuple(sorted({*_HANDLERS, "Constant", "Shape", "Size"}))
"""Node types of ONNX that can be imported (with the attributes each importer names)."""

_REMEDIES = {
    "If": "export the model for inference only, without branches",
    "Loop": "export the model for inference only, without loops",
    "Scan": "export the model for inference only, without loops",
    "Elu": "train with ReLU or a polynomial instead",
    "Selu": "train with ReLU or a polynomial instead",
    "Gelu": "train with ReLU or a polynomial instead",
    "Erf": "train with ReLU or a polynomial instead of GELU",
    "HardSigmoid": "train with Sigmoid or a polynomial instead",
    "HardSwish": "train with ReLU or a polynomial instead",
    "Softplus": "train with ReLU or a polynomial instead",
    "LRN": "train with batch normalization instead",
    "InstanceNormalization": "train with batch normalization instead",
    "LayerNormalization": "train with batch normalization instead",
    "GroupNormalization": "train with batch normalization instead",
    "QuantizeLinear": "export the model before quantization",
    "DequantizeLinear": "export the model before quantization",
    "QLinearConv": "export the model before quantization",
    "ConvTranspose": "use a convolution on a padded input instead",
    "Resize": "resize the image before it is encrypted",
    "Upsample": "resize the image before it is encrypted",
}
_REMEDY = "replace the layer by ones that can be imported and export again"
_MAX_FOLDED = 2**27  # elements of all constants worked out during the import


def _short(text: str) -> str:
    return text if len(text) <= 200 else text[:197] + "..."


class _Translation:
    def __init__(self, model: Model) -> None:
        self.model = model
        self.problems: list[tuple[str, str, str]] = []
        self.known: dict[str, Const | Value | None] = {"": None}
        self.lost: set[str] = set()
        self.folded = 0
        self.out, self.input = self._input()

    def refuse(self, name: str, kind: str, remedy: str) -> None:
        self.problems.append((_short(name), _short(kind), remedy))

    def _input(self) -> tuple[Emitter, str]:
        """Find the one input and its shape for a batch of one image."""
        entries = [entry for entry in self.model.graph.input if entry.name not in self.model.tensors]
        if not entries:
            raise GraphError(f"{self.model.label}: has no input for the image; export it again")
        for entry in entries[1:]:
            self.refuse(entry.name, "input", "a model takes one input, the image: make the others constants")
            self.lost.add(entry.name)
        entry = entries[0]
        tensor = entry.type.tensor_type
        sides = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
        if not tensor.HasField("shape") or not sides:
            self.refuse(entry.name, "input", "its shape is not given: export the model with a fixed image size")
            sides = [1]
        if tensor.elem_type not in (1, 10, 11, 16):
            self.refuse(entry.name, "input", "it does not take floating-point numbers: move the conversion out")
        batch = sides[0]
        if batch is None or batch == 0 or len(sides) in (2, 4):
            sides[0] = 1
        dynamic = [axis for axis, side in enumerate(sides) if side is None or side < 1]
        if dynamic:
            self.refuse(
                entry.name,
                "input",
                f"axis {dynamic} of {len(sides)} have no fixed size: export with a fixed image size",
            )
        full = tuple(1 if side is None or side < 1 else int(side) for side in sides)
        if elements(full) > MAX_ELEMENTS:
            raise GraphError(f"{self.model.label}: an input of shape {full[:8]} is above {MAX_ELEMENTS} elements")
        out = Emitter(entry.name, full, max(batch or 1, 1))
        if dynamic or not tensor.HasField("shape"):
            self.lost.add(entry.name)
        else:
            self.known[entry.name] = out.input
        return out, entry.name

    def run(self) -> Graph:
        for proto in self.model.nodes:
            self._node(proto)
        outputs = list(self.model.graph.output)
        for entry in outputs[1:]:
            self.refuse(entry.name, "output", "a model gives one output: export it without the others")
        for tensor in self.model.graph.sparse_initializer:
            self.refuse(tensor.values.name, "sparse initializer", "export the model with dense weights")
        if self.problems:
            raise self._error()
        result = self.known.get(outputs[0].name)
        if result is None:
            result = self._tensor(outputs[0].name)
        if not isinstance(result, Value):
            raise GraphError(f"{self.model.label}: its output {outputs[0].name!r} does not depend on the image")
        name = self.model.graph.name or "model"
        return Graph(_short(name), self.input, self.out.input.image, tuple(self.out.nodes), result.name)

    def _error(self) -> UnsupportedModelError:
        lines = [f"  - {name!r} ({kind}): {remedy}" for name, kind, remedy in self.problems]
        message = f"{self.model.label}: {len(lines)} part(s) cannot be imported:\n" + "\n".join(lines)
        return UnsupportedModelError(message, tuple(self.problems))

    def _tensor(self, name: str) -> Const | None:
        """An initializer as a constant; None (and a problem noted) if it cannot be read."""
        if name not in self.model.tensors:
            return None
        try:
            array = decode_tensor(self.model.tensors[name], f"{self.model.label}: initializer {_short(name)!r}")
        except Foreign as error:
            self.refuse(name, "initializer", f"{error}; export the model with its weights inside, as float32")
            self.lost.add(name)
            return None
        found = Const(array)
        self.known[name] = found
        return found

    def _node(self, proto: onnx.NodeProto) -> None:
        label = _short(proto.name or next(iter(proto.output), "") or proto.op_type)
        outputs = list(proto.output)
        foreign = proto.domain not in ("", "ai.onnx")
        kind = f"{proto.domain}.{proto.op_type}" if foreign else proto.op_type
        for name in proto.input:
            if name and name not in self.known and name not in self.lost:
                self._tensor(name)
        if kind not in SUPPORTED and not self._foldable(proto, foreign):
            self.refuse(label, kind, _REMEDIES.get(kind, _REMEDY))
            self._lose(proto)
            return
        if any(name in self.lost for name in proto.input):
            self._lose(proto)
            return
        try:
            view = self._view(proto, label)
            result = self._apply(view)
            unread = sorted(set(view.attributes) - view.read)
            if unread:
                raise Refused(f"its attribute(s) {', '.join(map(_short, unread))} are not known", "export without them")
        except (Refused, Foreign) as error:
            self.refuse(label, kind, f"{error}")
            self._lose(proto)
            return
        except GraphError as error:
            if self.problems:  # may follow from a guess made after the first problem
                self._lose(proto)
                return
            text = str(error)
            raise GraphError(text if label in text else f"node {label!r} ({kind}): {text}") from None
        results = result if isinstance(result, tuple) else (result,)
        for name, found in zip(outputs, results, strict=False):
            self.known[name] = found
        if any(name and self._used(name) for name in outputs[len(results) :]):
            self.refuse(label, kind, "only its first output can be imported; export the model without the others")
            self.lost.update(name for name in outputs[len(results) :] if name)

    def _foldable(self, proto: onnx.NodeProto, foreign: bool) -> bool:
        if foreign or proto.op_type not in FOLDED:
            return False
        return all(name not in self.lost and not isinstance(self.known.get(name), Value) for name in proto.input)

    def _used(self, name: str) -> bool:
        return any(name in node.input for node in self.model.nodes) or name == self.model.graph.output[0].name

    def _view(self, proto: onnx.NodeProto, label: str) -> NodeView:
        attributes: dict[str, Any] = {}
        for attribute in proto.attribute:
            if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
                raise Refused(f"its attribute {attribute.name!r} is a graph", "export the model without branches")
            if attribute.type == onnx.AttributeProto.TENSOR:
                attributes[attribute.name] = decode_tensor(attribute.t, f"node {label!r}: attribute {attribute.name!r}")
            else:
                try:
                    attributes[attribute.name] = onnx.helper.get_attribute_value(attribute)
                except ValueError:
                    raise GraphError(f"node {label!r}: attribute {attribute.name[:200]!r} has no type") from None
        inputs = [self.known[name] for name in proto.input]
        output = next(iter(proto.output), "")
        if not output:
            raise GraphError(f"node {label!r} ({proto.op_type}): has no output")
        return NodeView(label, proto.op_type, output, self.model.opset, inputs, attributes, len(proto.output))

    def _apply(self, view: NodeView) -> Const | Value | tuple[Const | Value, ...]:
        if view.kind == "Constant":
            return _constant(view)
        if view.kind in ("Shape", "Size"):
            return shape_of(view)
        if not any(isinstance(operand, Value) for operand in view.inputs):
            folded = fold(view)
            if folded is not None:
                parts = folded if isinstance(folded, tuple) else (folded,)
                self.folded += sum(part.array.size for part in parts)
                if self.folded > _MAX_FOLDED:
                    raise GraphError(f"{self.model.label}: works out more than {_MAX_FOLDED} constant numbers")
                return folded
        if view.kind not in _HANDLERS:
            raise Refused("its inputs are not all constants", _REMEDY)
        return _HANDLERS[view.kind](view, self.out)

    def _lose(self, proto: onnx.NodeProto) -> None:
        """Go on after a problem as if the node kept the shape of its input, as activations do: later problems are found too.

        ONNX's own shape inference is not asked: some damaged files make it end the process (1.23: slices of negative sides).
        """
        guess = next((v for v in map(self.known.get, proto.input) if isinstance(v, Value)), None)
        for number, name in enumerate(proto.output):
            if not name:
                continue
            if number or guess is None:
                self.lost.add(name)
            else:
                self.known[name] = Value(name, guess.full)


def _constant(view: NodeView) -> Const:
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        found = view.attribute(name, None)
        if found is not None:
            array = np.asarray(found)
            return Const(array.astype(np.float64) if array.dtype.kind == "f" else array)
    raise Refused("it holds no plain numbers", "export the model with dense, numeric constants")


def translate(model: Model) -> Graph:
    """Make the graph of a checked file.

    Raises
    ------
    UnsupportedModelError
        With every part of the file that cannot be imported.
    GraphError
        If the file contradicts itself: shapes that do not fit, missing inputs, sizes above the caps.
    """
    return _Translation(model).run()
