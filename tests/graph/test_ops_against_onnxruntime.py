"""Rule: on every supported node type, import and plain executor equal onnxruntime to 1e-4 relative."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from onnx.helper import make_node

OPSETS = (7, 9, 11, 13, 17, 18, 21, 23)
quick = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
opsets = st.sampled_from(OPSETS)
small = st.integers(1, 3)


def rng(data: st.DataObject) -> np.random.Generator:
    return np.random.default_rng(data.draw(st.integers(0, 2**16)))


def f32(generator: np.random.Generator, *shape: int) -> np.ndarray:
    return generator.uniform(-1, 1, size=shape).astype(np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def draw_padding(data: st.DataObject, kernel: tuple[int, int], limit: bool) -> dict:
    mode = data.draw(st.sampled_from(["pads", "none", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if mode == "none":
        return {}
    if mode != "pads":
        return {"auto_pad": mode}
    sides = [data.draw(st.integers(0, k - 1 if limit else 3)) for k in (*kernel, *kernel)]
    return {"pads": sides}


@quick
@given(data=st.data(), opset=opsets)
def test_conv(model, check, data, opset):
    groups, per_group, per_out = (data.draw(small) for _ in range(3))
    kernel = (data.draw(small), data.draw(small))
    padding = draw_padding(data, kernel, limit=False)
    dilations = [1, 1] if "auto_pad" in padding else [data.draw(st.integers(1, 2)) for _ in range(2)]
    strides = [data.draw(small), data.draw(small)]
    height, width = data.draw(st.integers(5, 9)), data.draw(st.integers(5, 9))
    generator = rng(data)
    constants = {"w": f32(generator, groups * per_out, per_group, *kernel)}
    inputs = ["x", "w"]
    if data.draw(st.booleans()):
        constants["b"] = f32(generator, groups * per_out)
        inputs.append("b")
    attributes = {"group": groups, "dilations": dilations, "strides": strides, **padding}
    if data.draw(st.booleans()):
        attributes["kernel_shape"] = kernel
    check(
        model(
            [make_node("Conv", inputs, ["y"], **attributes)],
            (groups * per_group, height, width),
            constants,
            opset=opset,
        )
    )


@quick
@given(data=st.data(), opset=opsets)
def test_max_pool(model, check, data, opset):
    kernel = (data.draw(small), data.draw(small))
    attributes = {"kernel_shape": kernel, "strides": [data.draw(small), data.draw(small)]}
    attributes |= draw_padding(data, kernel, limit=True)
    if "auto_pad" in attributes:  # strides beyond the kernel make onnxruntime's SAME padding negative
        attributes["strides"] = [min(pair) for pair in zip(attributes["strides"], kernel, strict=True)]
    if opset >= 10 and "auto_pad" not in attributes:
        attributes["ceil_mode"] = data.draw(st.integers(0, 1))
        attributes["dilations"] = [data.draw(st.integers(1, 2)) for _ in range(2)]
    shape = (2, data.draw(st.integers(5, 9)), data.draw(st.integers(5, 9)))
    check(model([make_node("MaxPool", ["x"], ["y"], **attributes)], shape, opset=opset))


@quick
@given(data=st.data(), opset=opsets)
def test_average_pool(model, check, data, opset):
    kernel = (data.draw(small), data.draw(small))
    attributes = {"kernel_shape": kernel, "strides": [data.draw(small), data.draw(small)]}
    attributes |= draw_padding(data, kernel, limit=True)
    if "auto_pad" in attributes:  # strides beyond the kernel make onnxruntime's SAME padding negative
        attributes["strides"] = [min(pair) for pair in zip(attributes["strides"], kernel, strict=True)]
    attributes["count_include_pad"] = data.draw(st.integers(0, 1))
    if opset >= 10 and "auto_pad" not in attributes:
        attributes["ceil_mode"] = data.draw(st.integers(0, 1))
    shape = (2, data.draw(st.integers(5, 9)), data.draw(st.integers(5, 9)))
    check(model([make_node("AveragePool", ["x"], ["y"], **attributes)], shape, opset=opset))


@quick
@given(kind=st.sampled_from(["GlobalAveragePool", "GlobalMaxPool"]), opset=opsets, c=small, h=small, w=small)
def test_global_pools(model, check, kind, opset, c, h, w):
    check(model([make_node(kind, ["x"], ["y"])], (c, h, w), opset=opset))


@quick
@given(data=st.data(), opset=opsets)
def test_gemm(model, check, data, opset):
    inner, outer = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    trans = data.draw(st.integers(0, 1))
    generator = rng(data)
    constants = {"w": f32(generator, *((outer, inner) if trans else (inner, outer)))}
    inputs = ["x", "w"]
    bias = data.draw(st.sampled_from([None, (outer,), (1, outer), (1, 1), (1,), ()]))
    if bias is None and opset < 11:
        bias = (outer,)
    if bias is not None:
        constants["c"] = f32(generator, *bias)
        inputs.append("c")
    alpha, beta = data.draw(st.sampled_from([1.0, 0.5, -2.0])), data.draw(st.sampled_from([1.0, 0.25, 0.0]))
    node = make_node("Gemm", inputs, ["y"], alpha=alpha, beta=beta, transB=trans)
    check(model([node], (inner,), constants, opset=opset))


def test_gemm_adds_a_computed_value(model, check):
    constants = {"w": f32(np.random.default_rng(1), 4, 4)}
    check(model([make_node("Gemm", ["x", "w", "x"], ["y"], beta=0.5)], (4,), constants))


@quick
@given(data=st.data(), opset=opsets)
def test_matmul_with_the_constant_right(model, check, data, opset):
    shape = data.draw(st.sampled_from([(5,), (3, 5), (2, 3, 5)]))
    weight = data.draw(st.sampled_from([(5, 4), (5, 1), (5,)]))
    if len(shape) > 1 and len(weight) == 2 and data.draw(st.booleans()):
        weight = (1, *weight)
    check(model([make_node("MatMul", ["x", "w"], ["y"])], shape, {"w": f32(rng(data), *weight)}, opset=opset))


@quick
@given(data=st.data(), opset=opsets)
def test_matmul_with_the_constant_left(model, check, data, opset):
    shape = data.draw(st.sampled_from([(3, 5), (2, 3, 5)]))
    check(model([make_node("MatMul", ["w", "x"], ["y"])], shape, {"w": f32(rng(data), 4, 3)}, opset=opset))


@quick
@given(data=st.data(), opset=opsets, kind=st.sampled_from(["Add", "Sub", "Mul", "Div"]))
def test_arithmetic_with_constants(model, check, data, opset, kind):
    shape = (3, 4, 5)
    other = data.draw(st.sampled_from([(), (1,), (5,), (4, 5), (3, 1, 1), (1, 3, 1, 1), (1, 3, 4, 5), (3, 4, 1)]))
    constants = {"c": f32(rng(data), *other) + 1.5}
    inputs = ["x", "c"] if kind == "Div" or data.draw(st.booleans()) else ["c", "x"]
    check(model([make_node(kind, inputs, ["y"])], shape, constants, opset=opset))


@quick
@given(opset=opsets, kind=st.sampled_from(["Add", "Sub", "Mul"]), same=st.booleans())
def test_arithmetic_of_two_values(model, check, opset, kind, same):
    nodes = [make_node("Relu", ["x"], ["r"]), make_node(kind, ["x", "x" if same else "r"], ["y"])]
    assume(not (kind == "Sub" and same))
    graph = check(model(nodes, (2, 3, 4), opset=opset))
    if same:
        assert graph.nodes[-1].op.kind == {"Add": "Affine", "Mul": "Square"}[kind]


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul"])
def test_values_broadcast(model, check, kind):
    nodes = [
        make_node("GlobalAveragePool", ["x"], ["g"]),
        make_node("Sigmoid", ["g"], ["s"]),
        make_node(kind, ["s", "x"], ["y"]),
    ]
    check(model(nodes, (3, 4, 5)))


def test_constants_may_widen_a_value(model, check):
    constants = {"c": f32(np.random.default_rng(0), 1, 3, 4, 1)}
    check(model([make_node("Add", ["x", "c"], ["y"])], (1, 1, 5), constants))


@quick
@given(data=st.data(), opset=opsets, shape=st.sampled_from([(3,), (3, 4), (3, 4, 5)]))
def test_batch_normalization(model, check, data, opset, shape):
    generator = rng(data)
    constants = {name: f32(generator, 3) for name in ("s", "b", "m")}
    constants["v"] = f32(generator, 3) + 1.5
    node = make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], epsilon=0.01)
    check(model([node], shape, constants, opset=opset))


@quick
@given(opset=opsets, kind=st.sampled_from(["Relu", "Sigmoid", "Tanh", "Neg", "Identity"]))
def test_activations(model, check, opset, kind):
    check(model([make_node(kind, ["x"], ["y"])], (2, 3, 4), opset=opset), low=-8, high=8)


@quick
@given(opset=opsets, alpha=st.sampled_from([None, 0.0, 0.2, 1.0]))
def test_leaky_relu(model, check, opset, alpha):
    attributes = {} if alpha is None else {"alpha": alpha}
    check(model([make_node("LeakyRelu", ["x"], ["y"], **attributes)], (2, 3, 4), opset=opset))


@quick
@given(opset=opsets, low=st.sampled_from([None, -1.0, 0.0]), high=st.sampled_from([None, 0.5, 6.0]))
def test_clip(model, check, opset, low, high):
    if opset < 11:
        limits = {name: value for name, value in (("min", low), ("max", high)) if value is not None}
        data = model([make_node("Clip", ["x"], ["y"], **limits)], (2, 3, 4), opset=opset)
    else:
        constants = {n: np.float32(v) for n, v in (("lo", low), ("hi", high)) if v is not None}
        inputs = ["x", "lo" if low is not None else "", "hi" if high is not None else ""]
        data = model([make_node("Clip", inputs, ["y"])], (2, 3, 4), constants, opset=opset)
    check(data, low=-8, high=8)


@quick
@given(opset=st.sampled_from([9, 12, 13, 17]), kind=st.sampled_from(["Min", "Max"]), left=st.booleans())
def test_min_and_max_with_a_number(model, check, opset, kind, left):
    inputs = ["c", "x"] if left else ["x", "c"]
    check(model([make_node(kind, inputs, ["y"])], (2, 3, 4), {"c": np.float32([0.25])}, opset=opset))


@quick
@given(opset=opsets, power=st.integers(1, 6))
def test_powers(model, check, opset, power):
    check(model([make_node("Pow", ["x", "e"], ["y"])], (2, 3), {"e": np.float32(power)}, opset=opset))


@quick
@given(data=st.data(), opset=opsets, kind=st.sampled_from(["ReduceMean", "ReduceSum"]), keepdims=st.integers(0, 1))
def test_reductions(model, check, data, opset, kind, keepdims):
    axes = data.draw(st.sampled_from([(1,), (2, 3), (-1,), (3, 1), (1, 2, 3), (-2, -1)]))
    if opset >= (18 if kind == "ReduceMean" else 13):
        node, constants = make_node(kind, ["x", "a"], ["y"], keepdims=keepdims), {"a": i64(*axes)}
    else:
        node, constants = make_node(kind, ["x"], ["y"], keepdims=keepdims, axes=axes), {}
    check(model([node], (2, 3, 4), constants, opset=opset))


@quick
@given(data=st.data(), opset=opsets)
def test_pad(model, check, data, opset):
    pads = [
        0,
        *(data.draw(st.integers(-1, 2)) for _ in range(3)),
        0,
        *(data.draw(st.integers(-1, 2)) for _ in range(3)),
    ]
    value = data.draw(st.sampled_from([0.0, 1.5]))
    if opset < 11:
        node, constants = make_node("Pad", ["x"], ["y"], pads=pads, value=value), {}
    else:
        node, constants = make_node("Pad", ["x", "p", "v"], ["y"]), {"p": i64(*pads), "v": np.float32(value)}
    check(model([node], (4, 5, 6), constants, opset=opset))


def test_pad_of_named_axes(model, check):
    constants = {"p": i64(1, 2, 0, 3), "a": i64(-1, 2)}
    check(model([make_node("Pad", ["x", "p", "", "a"], ["y"])], (2, 3, 4), constants, opset=18))


@quick
@given(opset=opsets, axis=st.sampled_from([1, 2, 3, -1]))
def test_concat(model, check, opset, axis):
    nodes = [make_node("Relu", ["x"], ["r"]), make_node("Concat", ["x", "r", "x"], ["y"], axis=axis)]
    check(model(nodes, (2, 3, 4), opset=opset))


@quick
@given(opset=opsets, perm=st.permutations([1, 2, 3]))
def test_transpose(model, check, opset, perm):
    check(model([make_node("Transpose", ["x"], ["y"], perm=[0, *perm])], (2, 3, 4), opset=opset))


@quick
@given(
    opset=opsets, target=st.sampled_from([(0, -1), (1, 24), (-1, 24), (1, 4, 6), (0, 0, -1), (-1, 4, 2, 3), (1, -1, 1)])
)
def test_reshape(model, check, opset, target):
    nodes = [make_node("Reshape", ["x", "s"], ["r"]), make_node("Tanh", ["r"], ["y"])]
    check(model(nodes, (2, 3, 4), {"s": i64(*target)}, opset=opset))


@quick
@given(opset=opsets, axis=st.sampled_from([0, 1]))
def test_flatten(model, check, opset, axis):
    check(model([make_node("Flatten", ["x"], ["y"], axis=axis)], (2, 3, 4), opset=opset))


@quick
@given(opset=opsets, axes=st.sampled_from([(2,), (4,), (2, 4), (-1,)]))
def test_squeeze_and_unsqueeze(model, check, opset, axes):
    constants = {} if opset < 13 else {"a": i64(*axes), "b": i64(1, 3)}
    if opset < 13:
        assume(min(axes) > 0)
        nodes = [make_node("Squeeze", ["x"], ["s"], axes=axes), make_node("Unsqueeze", ["s"], ["y"], axes=[1, 3])]
    else:
        nodes = [make_node("Squeeze", ["x", "a"], ["s"]), make_node("Unsqueeze", ["s", "b"], ["y"])]
    check(model(nodes, (2, 1, 3, 1), constants, opset=opset))


@quick
@given(data=st.data(), opset=st.sampled_from([10, 11, 13, 17, 21]))
def test_slice(model, check, data, opset):
    start, end = data.draw(st.integers(-7, 6)), data.draw(st.sampled_from([-8, -3, -1, 2, 5, 2**31, 2**62]))
    step = data.draw(st.sampled_from([1, 2, -1, -2]))
    count = len(range(*slice(start, None if step < 0 and end < -6 else end, step).indices(6)))
    assume(count > 0)
    constants = {"s": i64(start), "e": i64(end), "a": i64(2), "t": i64(step)}
    check(model([make_node("Slice", ["x", "s", "e", "a", "t"], ["y"])], (2, 6, 3), constants, opset=opset))


@quick
@given(opset=st.sampled_from([7, 11, 13, 17]), axis=st.sampled_from([1, -1]))
def test_split(model, check, opset, axis):
    side = {1: [1, 3], -1: [4, 2]}[axis]
    if opset < 13:
        node, constants = make_node("Split", ["x"], ["p", "q"], axis=axis, split=side), {}
    else:
        node, constants = make_node("Split", ["x", "s"], ["p", "q"], axis=axis), {"s": i64(*side)}
    tail = [make_node("Sigmoid", ["p"], ["r"]), make_node("Concat", ["q", "r"], ["y"], axis=axis)]
    check(model([node, *tail], (4, 3, 6), constants, opset=opset))


@quick
@given(opset=opsets, index=st.sampled_from([np.int64(1), np.int64(-1), i64(0, 2), i64(2, 1, 0), i64(1)]))
def test_gather(model, check, opset, index):
    check(model([make_node("Gather", ["x", "i"], ["y"], axis=2)], (2, 3, 4), {"i": np.asarray(index)}, opset=opset))


@quick
@given(opset=opsets, kind=st.sampled_from(["Softmax", "LogSoftmax"]), axis=st.sampled_from([None, 1, -1]))
def test_softmax(model, check, opset, kind, axis):
    attributes = {} if axis is None else {"axis": axis}
    graph = check(model([make_node(kind, ["x"], ["y"], **attributes)], (6,), opset=opset))
    assert [op.kind for op in graph.body_and_tail()[1]] == ["Softmax"]


@quick
@given(opset=opsets, keepdims=st.integers(0, 1), axis=st.sampled_from([1, -1, 2]))
def test_argmax(model, check, opset, keepdims, axis):
    node = make_node("ArgMax", ["x"], ["y"], axis=axis, keepdims=keepdims)
    check(model([node], (4, 5), opset=opset, output_type=TensorProto.INT64))


@quick
@given(opset=opsets)
def test_dropout_and_cast_pass_values_on(model, check, opset):
    nodes = [
        make_node("Dropout", ["x"], ["d"]),
        make_node("Cast", ["d"], ["c"], to=TensorProto.FLOAT),
        make_node("Tanh", ["c"], ["y"]),
    ]
    assert len(check(model(nodes, (2, 3), opset=opset)).nodes) == 1


@quick
@given(opset=opsets, slope=st.sampled_from([(1,), (3, 1, 1)]))
def test_prelu_with_one_slope(model, check, opset, slope):
    check(
        model([make_node("PRelu", ["x", "s"], ["y"])], (3, 2, 2), {"s": np.full(slope, 0.3, np.float32)}, opset=opset)
    )


def test_sum_of_several(model, check):
    nodes = [make_node("Relu", ["x"], ["r"]), make_node("Sum", ["x", "c", "r", "x"], ["y"])]
    check(model(nodes, (2, 3), {"c": np.float32([1, 2, 3])}))


def test_expand_repeats_a_value(model, check):
    check(model([make_node("Expand", ["x", "s"], ["y"])], (2, 1, 3), {"s": i64(1, 2, 4, 3)}))
