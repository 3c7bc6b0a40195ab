"""Importers of nodes that slide a window: Conv, MaxPool, AveragePool and the global ones."""

from __future__ import annotations

from secureimg.graph.onnx_import.values import Emitter, Handler, NodeView, Refused, Result, Value, as_float
from secureimg.graph.ops import AveragePool, Conv, MaxPool, Mean
from secureimg.graph.ops.windows import Pads, Pair

__all__ = ["HANDLERS"]


def _planes(node: NodeView) -> Value:
    value = node.value(0)
    if len(value.full) != 4 or value.lead != 1:
        raise Refused(
            f"its input has shape {value.full} for one image", "only two-dimensional layers on (1, C, H, W) are known"
        )
    return value


def _pair(node: NodeView, name: str, default: int = 1) -> Pair:
    found = node.integers(name)
    if found is None:
        return default, default
    if len(found) != 2:
        raise Refused(f"{name} {found} is not two-dimensional", "only two-dimensional layers are known")
    return found[0], found[1]


def _pads(node: NodeView, value: Value, kernel: Pair, strides: Pair, dilations: Pair) -> Pads:
    """Explicit padding (top, left, bottom, right), worked out from auto_pad where the file uses that."""
    mode = node.attribute("auto_pad", "NOTSET")
    given = node.integers("pads")
    if mode == "VALID":
        return 0, 0, 0, 0
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        before, after = [], []
        for size, k, s, d in zip(value.image[1:], kernel, strides, dilations, strict=True):
            total = max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
            small, large = total // 2, total - total // 2
            before.append(small if mode == "SAME_UPPER" else large)
            after.append(large if mode == "SAME_UPPER" else small)
        return before[0], before[1], after[0], after[1]
    if mode != "NOTSET":
        raise Refused(f"auto_pad {mode!r} is not known", "export with explicit pads")
    if given is None:
        return 0, 0, 0, 0
    if len(given) != 4:
        raise Refused(f"pads {given} are not two-dimensional", "only two-dimensional layers are known")
    if min(given) < 0:
        raise Refused(f"pads {given} are negative", "crop with a Slice or Pad node before the layer")
    return given[0], given[1], given[2], given[3]


def _conv(node: NodeView, out: Emitter) -> Result:
    weight = as_float(node.const(1, "weight"))
    if weight.ndim != 4:
        raise Refused(f"its weight has shape {weight.shape}", "only two-dimensional convolutions are known")
    value = _planes(node)
    kernel = (weight.shape[2], weight.shape[3])
    declared = node.integers("kernel_shape")
    if declared is not None and declared != kernel:
        raise Refused(f"kernel_shape {declared} differs from the weight's {kernel}", "re-export the model")
    strides, dilations = _pair(node, "strides"), _pair(node, "dilations")
    pads = _pads(node, value, kernel, strides, dilations)
    bias = as_float(node.const(2, "bias")) if node.has(2) else None
    return out.emit(node, Conv(weight, bias, strides, pads, dilations, node.integer("group", 1)), (value,))


def _kernel(node: NodeView) -> Pair:
    kernel = node.integers("kernel_shape")
    if kernel is None or len(kernel) != 2:
        raise Refused(f"kernel_shape {kernel} is not two-dimensional", "only two-dimensional pooling is known")
    return kernel[0], kernel[1]


def _checked_pads(pads: Pads, kernel: Pair) -> Pads:
    if max(pads[0], pads[2]) >= kernel[0] or max(pads[1], pads[3]) >= kernel[1]:
        raise Refused(f"pads {pads} are not smaller than the kernel {kernel}", "pad less, or with a Pad node")
    return pads


def _max_pool(node: NodeView, out: Emitter) -> Result:
    value, kernel = _planes(node), _kernel(node)
    node.integer("storage_order", 0)  # only says how the second output, which we refuse, is numbered
    strides, dilations = _pair(node, "strides"), _pair(node, "dilations")
    pads = _checked_pads(_pads(node, value, kernel, strides, dilations), kernel)
    return out.emit(node, MaxPool(kernel, strides, pads, dilations, bool(node.integer("ceil_mode", 0))), (value,))


def _average_pool(node: NodeView, out: Emitter) -> Result:
    value, kernel, strides = _planes(node), _kernel(node), _pair(node, "strides")
    if _pair(node, "dilations") != (1, 1):
        raise Refused("it is dilated", "use an average pool without dilations, or a convolution")
    pads = _checked_pads(_pads(node, value, kernel, strides, (1, 1)), kernel)
    include, ceil_mode = bool(node.integer("count_include_pad", 0)), bool(node.integer("ceil_mode", 0))
    return out.emit(node, AveragePool(kernel, strides, pads, include, ceil_mode), (value,))


def _global_average_pool(node: NodeView, out: Emitter) -> Result:
    value = node.value(0)
    if value.lead != 1 or len(value.full) < 3:
        raise Refused(f"its input has shape {value.full} for one image", "it needs (1, C, H, W)")
    return out.emit(node, Mean(tuple(range(1, len(value.image))), True), (value,))


def _global_max_pool(node: NodeView, out: Emitter) -> Result:
    value = _planes(node)
    return out.emit(node, MaxPool((value.image[1], value.image[2])), (value,))


HANDLERS: dict[str, Handler] = {
    "AveragePool": _average_pool,
    "Conv": _conv,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "MaxPool": _max_pool,
}
