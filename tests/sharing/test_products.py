"""Linear maps modulo 2^width on float64 products, against sums of Python integers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import find, given, settings
from hypothesis import strategies as st

from secureimg.errors import CompileError
from secureimg.graph.ops.windows import window_count
from secureimg.sharing.products import apply_linear, ring_factor, small_factor
from secureimg.sharing.ring import signed
from secureimg.sharing.text import Geometry

SMALL_BITS = 26


def conv_geometry(shape: tuple[int, ...], weight_shape: tuple[int, ...], **options: Any) -> Geometry:
    pads, strides = options.get("pads", (0, 0, 0, 0)), options.get("strides", (1, 1))
    dilations = options.get("dilations", (1, 1))
    sides = [window_count(shape[1 + k], weight_shape[2 + k], strides[k], pads[k], pads[2 + k], dilations[k], False)
             for k in (0, 1)]  # fmt: skip
    return Geometry(
        kind="conv", in_shape=shape, out_shape=(weight_shape[0], *sides), weight_shape=weight_shape, **options
    )


def exact(geometry: Geometry, weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The definition of each kind on numpy's 64-bit integers, which wrap around modulo 2^64 and lose nothing else."""
    count = len(values)
    if geometry.kind == "scale":
        axes = (1,) * (len(geometry.out_shape) - len(geometry.in_shape))
        lined = values.reshape(count, *axes, *geometry.in_shape)
        return np.broadcast_to(lined * weights, (count, *geometry.out_shape))
    if geometry.kind == "dense":
        return np.einsum("...k,mk->...m", values, weights)
    if geometry.kind == "sparse":
        out = np.zeros((count, geometry.matrix_shape[0]), dtype=np.uint64)
        flat = values.reshape(count, -1)
        for row, (start, stop) in enumerate(itertools.pairwise(geometry.starts)):
            for place in range(start, stop):
                out[:, row] += weights[place] * flat[:, geometry.columns[place]]
        return out.reshape(count, *geometry.out_shape)
    top, left, bottom, right = geometry.pads
    padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
    outputs, per_group, kh, kw = geometry.weight_shape
    _, rows, columns = geometry.out_shape
    out = np.zeros((count, *geometry.out_shape), dtype=np.uint64)
    for o, y, x in itertools.product(range(outputs), range(kh), range(kw)):
        group = o // (outputs // geometry.groups)
        for c in range(per_group):
            i, j = y * geometry.dilations[0], x * geometry.dilations[1]
            seen = padded[:, group * per_group + c, i : i + (rows - 1) * geometry.strides[0] + 1 : geometry.strides[0],
                          j : j + (columns - 1) * geometry.strides[1] + 1 : geometry.strides[1]]  # fmt: skip
            out[:, o] += weights[o, c, y, x] * seen
    return out


def check(geometry: Geometry, weights: np.ndarray, values: np.ndarray, width: int, *, small: bool) -> None:
    keep = np.uint64((1 << width) - 1)
    factor = small_factor(geometry, weights) if small else ring_factor(geometry, weights.reshape(-1), width)
    found = apply_linear(geometry, factor, values, width)
    assert found.shape == (len(values), *geometry.out_shape)
    assert np.array_equal(found & keep, exact(geometry, weights.reshape(geometry.weight_shape), values) & keep)


def words(rng: np.random.Generator, shape: tuple[int, ...], width: int, kind: str) -> np.ndarray:
    """Signed numbers of `width` bits: of every size, or the lowest, or the highest throughout."""
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    if kind == "uniform":
        return rng.integers(low, high, shape, dtype=np.int64, endpoint=True).view(np.uint64)
    return np.full(shape, low if kind == "lowest" else high, dtype=np.int64).view(np.uint64)


KINDS = st.sampled_from(["uniform", "uniform", "lowest", "highest"])


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    side = st.integers(1, 3)
    kind = draw(st.sampled_from(["conv", "conv", "conv", "depthwise", "dense", "scale", "sparse"]))
    if kind == "dense":
        shape = draw(st.sampled_from([(5,), (1,), (3, 7), (2, 2, 40)]))
        outputs = draw(st.sampled_from([1, 3, 4, 17]))
        return Geometry(
            kind="dense", in_shape=shape, out_shape=(*shape[:-1], outputs), weight_shape=(outputs, shape[-1])
        )
    if kind == "scale":
        shape, weights = draw(st.sampled_from([
            ((3, 4, 3), (3, 1, 1)), ((3, 4, 3), ()), ((3, 4, 3), (3, 4, 3)), ((3, 4, 3), (3,)), ((5,), (3, 1)), ((), (2,)),
        ]))  # fmt: skip
        return Geometry(
            kind="scale", in_shape=shape, out_shape=np.broadcast_shapes(shape, weights), weight_shape=weights
        )
    if kind == "sparse":
        matrix = sp.random_array((6, 12), density=draw(st.sampled_from([0.0, 0.2, 1.0])), format="csr",
                                 rng=np.random.default_rng(draw(st.integers(0, 99))))  # fmt: skip
        return Geometry(
            kind="sparse", in_shape=(3, 4), out_shape=(2, 3), weight_shape=(max(matrix.nnz, 1),),
            places=matrix.indices.astype("<i4").tobytes(), row_ends=matrix.indptr.astype("<i4").tobytes(),
        )  # fmt: skip
    depthwise = kind == "depthwise"
    groups = draw(st.integers(1, 4))
    per_group, per_out = (
        (1, draw(st.integers(1, 2))) if depthwise else (draw(side), draw(st.sampled_from([1, 3, 4, 9])))
    )
    kernel, dilations = (draw(side), draw(side)), (draw(side), draw(side))
    pads = tuple(draw(st.integers(0, 2)) for _ in range(4))
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    shape = (groups * per_group, *(max(1, span - 1) + draw(st.integers(1, 9)) for span in spans))
    return conv_geometry(shape, (groups * per_out, per_group, *kernel), strides=(draw(side), draw(side)), pads=pads,
                         dilations=dilations, groups=groups)  # fmt: skip


@settings(max_examples=150)
@given(
    geometry=geometries(), count=st.integers(1, 3), width=st.integers(1, 64), small=st.booleans(),
    weight_kind=KINDS, value_kind=KINDS, seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_any_linear_map_is_exact(
    geometry: Geometry, count: int, width: int, small: bool, weight_kind: str, value_kind: str, seed: int
) -> None:
    """Every kind, window and width, with a model's weights and with masked ones, also where all limbs are extreme."""
    rng = np.random.default_rng(seed)
    weights = words(rng, geometry.weight_shape, SMALL_BITS if small else width, weight_kind)
    values = words(rng, (count, *geometry.in_shape), 64, "uniform") if value_kind == "uniform" else words(
        rng, (count, *geometry.in_shape), width, value_kind)  # fmt: skip
    check(geometry, weights, values, width, small=small)


def test_there_are_maps_of_every_kind_and_path() -> None:
    """The strategy above reaches matrix products, integer loops, and each other kind."""
    for wanted in (
        lambda g: g.kind == "conv" and g.weight_shape[0] // g.groups >= 4 and g.groups > 1,
        lambda g: g.kind == "conv" and g.weight_shape[0] // g.groups < 4 and max(g.strides) > 1 and max(g.pads) > 0,
        lambda g: g.kind == "scale" and g.in_shape == (5,),
        lambda g: g.kind == "sparse" and not g.places,
        lambda g: g.kind == "dense" and len(g.in_shape) == 3,
    ):
        find(geometries(), wanted)


def extreme(rng: np.random.Generator, shape: tuple[int, ...], step: int, width: int) -> np.ndarray:
    """Numbers of which each limb of `step` bits is nearly the lowest there is, with random last bits."""
    total, shift = np.zeros(shape, dtype=np.uint64), 0
    while shift < width:
        bits = min(step, width - shift)
        limb = rng.integers(0, max(1, min(16, 1 << (bits - 2) if bits > 1 else 1)), shape) - (1 << (bits - 1))
        total += limb.view(np.uint64) << np.uint64(shift)
        shift += step
    return signed(total, width).view(np.uint64)


@pytest.mark.parametrize("kind", ["lowest", "highest", "uniform", "extreme"])
@pytest.mark.parametrize("width", [20, 37, 42, 46, 47, 53, 64])
@pytest.mark.parametrize("small", [True, False])
def test_long_sums_stay_exact(rng: np.random.Generator, kind: str, width: int, small: bool) -> None:
    """4608 terms (512 channels, 3 x 3), where no products cancel: one bit too many in a limb would lose low bits."""
    terms = 4608
    dense = Geometry(kind="dense", in_shape=(terms,), out_shape=(5,), weight_shape=(5, terms))
    conv = conv_geometry((512, 3, 4), (5, 512, 3, 3))
    bits = SMALL_BITS if small else width
    for geometry in (dense, conv):
        if kind == "extreme":
            step = SMALL_BITS if small else ring_factor(geometry, np.zeros(5 * terms, dtype=np.uint64), width).step
            weights = extreme(rng, geometry.weight_shape, step, bits)
            factor = small_factor(geometry, weights) if small else ring_factor(geometry, weights.reshape(-1), width)
            values = extreme(rng, (1, *geometry.in_shape), factor.value_limbs(width)[1], width)
        else:
            weights = words(rng, geometry.weight_shape, bits, kind)
            values = words(rng, (1, *geometry.in_shape), width, kind)
        check(geometry, weights, values, width, small=small)


def test_images_are_taken_a_few_at_a_time(rng: np.random.Generator) -> None:
    """A batch larger than the planes' buffer, and rows of outputs that cross from one image to the next."""
    geometry = conv_geometry((16, 96, 96), (4, 16, 3, 3), pads=(1, 1, 1, 1), strides=(2, 2))
    values = words(rng, (15, 16, 96, 96), 40, "uniform")  # the planes of 13 images fill the buffer
    check(geometry, words(rng, geometry.weight_shape, 12, "uniform"), values, 40, small=True)


def test_weights_without_room_for_an_exact_product_are_refused() -> None:
    """Rows that sum up to 2^47 leave fewer than 8 bits for the values."""
    geometry = Geometry(kind="dense", in_shape=(2,), out_shape=(4,), weight_shape=(4, 2))
    below, above = (np.full((4, 2), value, dtype=np.uint64) for value in ((1 << 45) - 1, 1 << 46))
    check(geometry, below, np.array([[3, 2**64 - 5]], dtype=np.uint64), 60, small=True)
    with pytest.raises(CompileError, match=r"2\^48.*scale them down"):
        small_factor(geometry, above)
