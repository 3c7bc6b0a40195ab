"""Programs between two parties: the plain executor's results, the twin's results, the predicted cost, clear refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnxruntime
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from secureimg import sharing
from secureimg.errors import CompileError, DecryptionError, ImageError, LocalProtocolError
from secureimg.graph import (
    AveragePool,
    Graph,
    GraphBuilder,
    LeakyRelu,
    LinearMap,
    Op,
    Slice,
    load_onnx,
    run_op,
    run_plain,
)
from secureimg.graph.ops import Clip, Sigmoid, Tanh
from secureimg.sharing import text

from .two_party import Seeds, last_place_errors, record, run_two_party

TOLERANCE = 2.0**-10
"""Against the plain executor, as a share of the largest output: rounded weights and values, a few layers deep."""


def weights(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))


def convolution(b: GraphBuilder, rng: np.random.Generator) -> str:
    return b.conv(
        b.input, weights(rng, 5, 3, 3, 2), rng.normal(size=5), strides=(2, 1), pads=(1, 0, 2, 1), dilations=(1, 2)
    )


def grouped(b: GraphBuilder, rng: np.random.Generator) -> str:
    x = b.relu(b.conv(b.input, weights(rng, 12, 1, 3, 3), pads=(1, 1, 1, 1), groups=3))
    return b.conv(b.relu(b.conv(x, weights(rng, 12, 1, 3, 3), groups=12)), weights(rng, 4, 6, 1, 1), groups=2)


def residual(b: GraphBuilder, rng: np.random.Generator) -> str:
    x = b.relu(b.conv(b.input, weights(rng, 6, 3, 3, 3), pads=(1, 1, 1, 1)))
    y = b.conv(b.relu(b.conv(x, weights(rng, 6, 6, 3, 3), pads=(1, 1, 1, 1))), weights(rng, 6, 6, 1, 1))
    return b.relu(b.add(x, b.subtract(y, b.input if b.shape(y) == b.shape(b.input) else x)))


def branches(b: GraphBuilder, rng: np.random.Generator) -> str:
    x = b.relu(b.conv(b.input, weights(rng, 4, 3, 1, 1)))
    pooled = b.max_pool(x, (3, 3), strides=(1, 1), pads=(1, 1, 1, 1))
    mean = b.average_pool(b.input, (3, 3), strides=(1, 1), pads=(1, 1, 1, 1))
    whole = b.conv(b.input, weights(rng, 2, 3, 5, 5), pads=(2, 2, 2, 2))
    return b.max_pool(b.concat(pooled, mean, whole, axis=0), (2, 2))


def classifier(b: GraphBuilder, rng: np.random.Generator) -> str:
    x = b.max_pool(b.relu(b.conv(b.input, weights(rng, 8, 3, 3, 3), rng.normal(size=8) / 8)), (2, 2))
    x = b.relu(b.dense(b.flatten(x), weights(rng, 16, int(np.prod(b.shape(x)))), rng.normal(size=16) / 8))
    return b.dense(x, weights(rng, 7, 16), rng.normal(size=7) / 8)


def padded_means(b: GraphBuilder, rng: np.random.Generator) -> str:
    x = b.apply(AveragePool((3, 2), (2, 2), (1, 0, 1, 1), False, True), b.input)
    x = b.relu(b.apply(AveragePool((2, 2), (1, 1), (1, 1, 0, 0), True), x))
    return b.average_pool(x, (2, 2))


def global_mean(b: GraphBuilder, rng: np.random.Generator) -> str:
    x = b.mean(b.relu(b.conv(b.input, weights(rng, 5, 3, 3, 3))), (1, 2))
    return b.dense(b.flatten(x), weights(rng, 4, 5))


def mean_of_channels(b: GraphBuilder, rng: np.random.Generator) -> str:
    return b.mean(b.relu(b.affine(b.input, 1.0, -0.5)), (-3,), keepdims=False)


def affine(b: GraphBuilder, rng: np.random.Generator) -> str:
    x = b.affine(b.relu(b.input), rng.normal(size=(3, 1, 1)), rng.normal(size=(3, 1, 1)))
    return b.affine(b.relu(x), rng.normal(size=b.shape(x)), rng.normal(size=b.shape(x)[1:]))


def widened(b: GraphBuilder, rng: np.random.Generator) -> str:
    return b.affine(
        b.relu(b.mean(b.input, (0,))), rng.normal(size=(4, 1, 1)), rng.normal(size=(1, 1, b.shape(b.input)[2]))
    )


def leaky(b: GraphBuilder, rng: np.random.Generator) -> str:
    x = b.apply(LeakyRelu(0.125), b.conv(b.input, weights(rng, 4, 3, 3, 3)))
    x = b.apply(LeakyRelu(0.01), b.conv(x, weights(rng, 4, 4, 3, 3)))
    return b.apply(LeakyRelu(-0.5), x)


def clipped(b: GraphBuilder, rng: np.random.Generator) -> str:
    x = b.apply(Clip(0.0, 1.0), b.conv(b.input, weights(rng, 4, 3, 3, 3)))
    return b.apply(Clip(-0.25, 0.125), b.conv(x, weights(rng, 4, 4, 3, 3)))


def products(b: GraphBuilder, rng: np.random.Generator) -> str:
    x = b.conv(b.input, weights(rng, 4, 3, 3, 3))
    return b.multiply(b.square(x), b.conv(b.input, weights(rng, 4, 3, 3, 3)))


def polynomial(b: GraphBuilder, rng: np.random.Generator) -> str:
    return b.polynomial(b.conv(b.input, weights(rng, 4, 3, 3, 3)), (0.2, -0.5, 0.3, 0.1))


def moved(b: GraphBuilder, rng: np.random.Generator) -> str:
    x = b.pad(b.relu(b.input), ((0, 1), (-1, 2), (3, -2)), 0.75)
    x = b.transpose(x, (1, 2, 0))
    x = b.apply(Slice((1, 5, 0), (4, 3, 2), (1, -2, 3)), x)
    x = b.relu(b.affine(b.reshape(x, (2, 12)), 2.0, -1.0))
    return b.dense(x, weights(rng, 5, 12))


def sparse_maps(b: GraphBuilder, rng: np.random.Generator) -> str:
    size = int(np.prod(b.shape(b.input)))
    matrices = [sp.random_array((6, size), density=density, format="csr", rng=rng) for density in (0.2, 0.5, 0.0)]
    x = b.apply(LinearMap((matrices[0],), rng.normal(size=6), (2, 3)), b.input)
    y = b.apply(LinearMap((matrices[2],), rng.normal(size=6), (2, 3)), b.input)
    square = sp.csr_array(np.eye(6))
    return b.relu(b.apply(LinearMap((matrices[1], square, square), rng.normal(size=6), (6,)), b.input, b.relu(x), y))


def framed_pool(b: GraphBuilder, rng: np.random.Generator) -> str:
    x = b.pad(b.max_pool(b.input, (2, 2)), ((0, 0), (1, 1), (1, 0)))  # a pool's values live in a ring of their own
    return b.dense(b.flatten(x), weights(rng, 5, int(np.prod(b.shape(x)))))


def repeated_means(b: GraphBuilder, rng: np.random.Generator) -> str:
    x = b.input
    for _ in range(4):  # each divides by other numbers at the edges than inside
        x = b.average_pool(x, (3, 3), strides=(1, 1), pads=(1, 1, 1, 1))
    return x


def untouched(b: GraphBuilder, rng: np.random.Generator) -> str:
    return b.input


EXACT: tuple[Callable[[GraphBuilder, np.random.Generator], str], ...] = (
    convolution, grouped, residual, branches, classifier, padded_means, global_mean, mean_of_channels, affine, widened,
    leaky, clipped, products, polynomial, moved, sparse_maps, framed_pool,
    repeated_means, untouched,
)  # fmt: skip


def check(graph: Graph, images: np.ndarray, tolerance: float = TOLERANCE, **options: object) -> sharing.Program:
    """Two parties against the plain executor, against the twin, and against the predicted cost."""
    program = sharing.compile(graph, **options)  # type: ignore[arg-type]
    public, run = program.public, record(program, images)
    plain, clear = run_plain(graph.body_and_tail()[0], images), sharing.run_clear(program, images)
    assert np.abs(run.result - plain).max() <= tolerance * max(1.0, float(np.abs(plain).max()))
    output = public.registers[public.output]
    unit = output.factor * 2.0**-output.scale
    assert np.abs(run.result - clear).max() <= (last_place_errors(program, images)[public.output] + 1e-6) * unit
    check_cost(run)
    return program


def check_cost(run: object) -> None:
    """What the report says is what the channel carried, message for message."""
    cost = run.cost  # type: ignore[attr-defined]
    assert run.rounds == (cost.rounds, cost.rounds)  # type: ignore[attr-defined]
    for side, sent in enumerate(run.sent):  # type: ignore[attr-defined]
        assert sum(map(len, sent)) == sum((layer.online_0, layer.online_1)[side] for layer in cost.layers)
    assert sum(len(message) for sent in run.sent for message in sent) == cost.online_bytes  # type: ignore[attr-defined]
    assert len(run.corrections) == cost.offline_bytes  # type: ignore[attr-defined]
    assert len(run.masked_weights) == cost.masked_weight_bytes  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("make", EXACT, ids=lambda make: make.__name__)
def test_graphs_of_every_op(
    rng: np.random.Generator, make: Callable[[GraphBuilder, np.random.Generator], str], count: int
) -> None:
    """Results within 2^-10 of the plain ones, within last places of the twin's, at the stated cost."""
    builder = GraphBuilder(make.__name__, (3, 9, 8))
    graph = builder.build(make(builder, rng))
    check(graph, rng.uniform(0, 1, (count, 3, 9, 8)))


@pytest.mark.parametrize("make", [classifier, branches, grouped, affine, sparse_maps], ids=lambda make: make.__name__)
@pytest.mark.parametrize(
    "options", [{"weights": "public"}, {"bounds": "proved"}, {"fraction_bits": 12}, {"fraction_bits": 20}], ids=str
)
def test_other_ways_to_compile(
    rng: np.random.Generator, make: Callable[[GraphBuilder, np.random.Generator], str], options: dict[str, object]
) -> None:
    """Weights that both parties know, bounds that hold for every input, fewer and more places."""
    builder = GraphBuilder(make.__name__, (3, 9, 8))
    graph = builder.build(make(builder, rng))
    coarse = 2.0 ** (16 - int(options.get("fraction_bits", 16)))  # type: ignore[call-overload]
    program = check(graph, rng.uniform(0, 1, (2, 3, 9, 8)), TOLERANCE * max(1.0, coarse), **options)
    if options.get("weights") == "public":
        assert sharing.cost_of(program.public).masked_weight_bytes == 0


@pytest.mark.parametrize("op", [Sigmoid(), Tanh()], ids=["sigmoid", "tanh"])
def test_activations_stay_within_their_stated_error(rng: np.random.Generator, op: Op) -> None:
    """1e-3, on values far inside and far outside the curve's knots."""
    builder = GraphBuilder("activation", (40,))
    graph = builder.build(builder.apply(op, builder.affine(builder.input, 30.0, -15.0)))
    images = np.linspace(0, 1, 120).reshape(3, 40)
    found = run_two_party(sharing.compile(graph), images)
    assert np.abs(found - run_plain(graph, images)).max() <= 1e-3


def random_graph(rng: np.random.Generator) -> Graph:
    """One to five layers of any kind and shape."""
    b = GraphBuilder("random", (int(rng.integers(1, 4)), int(rng.integers(4, 10)), int(rng.integers(4, 10))))
    x = b.input
    for _ in range(int(rng.integers(1, 6))):
        channels, height, width = b.shape(x)
        kind = rng.choice(
            ["conv", "conv", "relu", "max", "average", "residual", "concat", "square", "leaky", "affine", "pad"]
        )
        if kind == "conv":
            groups = 1 if rng.random() < 0.6 else channels
            outputs = int(rng.integers(1, 6)) * groups
            kernel = int(rng.integers(1, min(3, height) + 1)), int(rng.integers(1, min(3, width) + 1))
            pads = tuple(int(v) for v in rng.integers(0, 2, 4))
            x = b.conv(x, weights(rng, outputs, channels // groups, *kernel), rng.normal(size=outputs) / 4, groups=groups,
                       strides=(int(rng.integers(1, 3)), int(rng.integers(1, 3))), pads=pads)  # fmt: skip
        elif kind == "relu":
            x = b.relu(x)
        elif kind in ("max", "average") and min(height, width) >= 2:
            pool = b.max_pool if kind == "max" else b.average_pool
            x = pool(x, (2, 2), strides=(int(rng.integers(1, 3)), 2), pads=(0, 1, 1, 0))
        elif kind == "residual":
            y = b.relu(b.conv(x, weights(rng, channels, channels, 3, 3), pads=(1, 1, 1, 1)))
            x = b.add(x, y) if rng.random() < 0.5 else b.subtract(y, x)
        elif kind == "concat":
            x = b.concat(x, b.relu(b.conv(x, weights(rng, 2, channels, 1, 1))), axis=int(rng.integers(0, 1)))
        elif kind == "square":
            x = b.affine(b.square(x), 0.5)
        elif kind == "leaky":
            x = b.apply(LeakyRelu(float(rng.choice([0.25, 0.1]))), x)
        elif kind == "affine":
            x = b.affine(x, rng.normal(size=(channels, 1, 1)), rng.normal(size=(channels, 1, 1)))
        elif kind == "pad":
            x = b.pad(
                x, ((0, 0), (1, 0), (0, int(rng.integers(-1 if width > 1 else 0, 2)))), float(rng.choice([0.0, 0.5]))
            )
    if rng.random() < 0.5:
        return b.build(x)
    return b.build(b.dense(b.flatten(x), weights(rng, 5, int(np.prod(b.shape(x)))), rng.normal(size=5)))


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), count=st.sampled_from([1, 1, 2, 5]), options=st.sampled_from([
    {}, {}, {"weights": "public"}, {"bounds": "proved"},
]))  # fmt: skip
def test_random_graphs(seed: int, count: int, options: dict[str, object]) -> None:
    """Whatever is built from these layers gives the plain results; what cannot is refused for its range."""
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    images = rng.uniform(0, 1, (count, *graph.input_shape))
    try:
        check(graph, images, 4 * TOLERANCE, **options)
    except CompileError as error:
        if "the limit is" not in str(error):
            raise


def test_an_onnx_model_gives_onnxruntimes_scores(rng: np.random.Generator) -> None:
    """From the file to the reconstructed scores, with another engine as the judge."""
    constants = {
        "w": weights(rng, 6, 1, 3, 3), "g": rng.uniform(0.5, 1.5, 6), "h": rng.normal(size=6) / 4,
        "m": rng.normal(size=6) / 4, "v": rng.uniform(0.5, 2.0, 6), "d": weights(rng, 5, 54), "e": rng.normal(size=5),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "g", "h", "m", "v"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[3, 3], strides=[3, 3]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "d", "e"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    data = model.SerializeToString()
    images = rng.uniform(0, 1, (3, 1, 9, 9)).astype(np.float32)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    wanted = session.run(None, {"x": images})[0]
    found = run_two_party(sharing.compile(load_onnx(data)), images)
    assert np.abs(found - wanted).max() <= TOLERANCE * max(1.0, float(np.abs(wanted).max()))


# --------------------------------------------------------------------------------------------------- what is revealed


def labelled(rng: np.random.Generator) -> tuple[Graph, np.ndarray, np.ndarray]:
    builder = GraphBuilder("labels", (3, 9, 8))
    graph = builder.build(builder.softmax(classifier(builder, rng)))
    images = rng.uniform(0, 1, (6, 3, 9, 8))
    scores = run_plain(graph.body_and_tail()[0], images)
    gaps = -np.diff(np.sort(scores, axis=1)[:, ::-1], axis=1).min(axis=1)
    clear_cut = gaps > 2 * TOLERANCE * np.abs(scores).max()
    assert clear_cut.sum() >= 2
    return graph, images[clear_cut], scores[clear_cut]


def test_only_the_label_is_revealed(rng: np.random.Generator) -> None:
    """The place of the largest score, three bits of seven classes, and the same with public weights."""
    graph, images, scores = labelled(rng)
    for kind in ("party 1", "public"):
        run = record(sharing.compile(graph, reveal="label", weights=kind), images)
        assert run.result[:, 0].tolist() == scores.argmax(axis=1).tolist()
        assert all(len(share) == len(images) and max(share) < 8 for share in run.result_shares)
        check_cost(run)


@pytest.mark.parametrize("top", [1, 2, 5, 7])
def test_only_the_top_places_are_revealed(rng: np.random.Generator, top: int) -> None:
    """The first `top` of the sorted scores, in order."""
    graph, images, scores = labelled(rng)
    run = record(sharing.compile(graph, reveal="top-k", top=top), images)
    assert run.result.tolist() == np.argsort(-scores, axis=1)[:, :top].tolist()
    check_cost(run)


def test_shares_may_be_kept_for_a_next_program(rng: np.random.Generator) -> None:
    """ "shares": full-size shares with no more than the usual places, which add up to the scores."""
    graph, images, scores = labelled(rng)
    program = sharing.compile(graph, reveal="shares")
    run = record(program, images)
    output = program.public.registers[program.public.output]
    assert (output.width, output.scale) == (64, 16)
    words = [np.frombuffer(share, dtype=np.uint64).reshape(scores.shape) for share in run.result_shares]
    assert np.abs((words[0] + words[1]).view(np.int64) / 2**16 - scores).max() <= TOLERANCE * np.abs(scores).max()


def test_shares_that_do_not_fit_are_refused(rng: np.random.Generator) -> None:
    """A short share names its party; a sum that names no label is not an answer."""
    graph, _, _ = labelled(rng)
    public = sharing.compile(graph, reveal="label").public
    good = np.zeros(public.result_bytes(1), dtype=np.uint8)
    with pytest.raises(DecryptionError, match="party 1 has 0 bytes, expected 1"):
        sharing.join_result(public, good, good[:0], 1)
    with pytest.raises(DecryptionError, match="names output 7 of 7"):
        sharing.join_result(public, good, good, 1)


# ------------------------------------------------------------------------------------------------------- refusals


@dataclass(frozen=True, eq=False)
class Odd(Op):
    """An op that nobody has a protocol for."""

    def infer(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        return shapes[0]


def test_an_op_without_protocol_is_named() -> None:
    """Layer and op, before anything is made."""
    run_op.register(Odd, lambda op, *values: values[0])
    builder = GraphBuilder("odd", (4,))
    graph = builder.build(builder.apply(Odd(), builder.input, name="strange"))
    with pytest.raises(CompileError, match="'strange': Odd has no protocol"):
        sharing.compile(graph)


def test_a_layer_that_could_wrap_around_is_named() -> None:
    """The error names the layer, how large its values get, and the limit."""
    builder = GraphBuilder("large", (4,))
    x = builder.dense(builder.input, np.eye(4) * 2.0**20, name="first")
    graph = builder.build(builder.dense(builder.relu(x), np.eye(4) * 2.0**26, name="second"))
    with pytest.raises(CompileError, match=r"'second': values up to 7\.1\d+e\+13 .* the limit is 61"):
        sharing.compile(graph)


def test_every_hidden_weight_is_there_to_be_masked(rng: np.random.Generator) -> None:
    """A matrix without entries has one weight, too: as many are sent as the program says."""
    builder = GraphBuilder("sparse", (3, 9, 8))
    program = sharing.compile(builder.build(sparse_maps(builder, rng)))
    for number, step in enumerate(program.public.steps):
        if isinstance(step, text.Linear):
            assert program.weights[number][0].shape == step.geometry.weight_shape


def test_a_label_of_scores_too_large_for_a_place_beside_them_is_refused() -> None:
    """Score and place share one ring of 62 bits: what does not fit is refused, not cut off."""
    builder = GraphBuilder("large", (300,))
    graph = builder.build(builder.dense(builder.input, np.eye(300) * 2.0**24))
    images = np.linspace(0, 1, 300)[None]
    assert run_two_party(sharing.compile(graph, reveal="label"), images).tolist() == [[299.0]]
    builder = GraphBuilder("larger", (300,))
    graph = builder.build(builder.dense(builder.dense(builder.input, np.eye(300) * 2.0**20), np.eye(300) * 2.0**16))
    assert sharing.compile(graph).public.registers
    with pytest.raises(CompileError, match="limit"):
        sharing.compile(graph, reveal="label")


@pytest.mark.parametrize("bits", [7, 25])
def test_places_out_of_range_are_refused(bits: int) -> None:
    """8 to 24, and both ends work."""
    builder = GraphBuilder("bits", (4,))
    graph = builder.build(builder.relu(builder.affine(builder.input, 1.0, -0.5)))
    with pytest.raises(CompileError, match=f"fraction_bits {bits} is outside 8 to 24"):
        sharing.compile(graph, fraction_bits=bits)
    for good in (8, 24):
        check(graph, np.array([[0.0, 0.25, 0.75, 1.0]]), 2.0 ** (2 - good), fraction_bits=good)


@pytest.mark.parametrize("ends", [(1.0, 1.0), (1.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_input_ranges_must_be_ranges(ends: tuple[float, float]) -> None:
    """Two finite numbers, the lower first."""
    builder = GraphBuilder("range", (4,))
    with pytest.raises(CompileError, match="input range"):
        sharing.compile(builder.build(builder.relu(builder.input)), input_range=ends)


def test_samples_of_another_shape_are_refused() -> None:
    """The ranges come from the samples, so they must be inputs of the graph."""
    builder = GraphBuilder("samples", (4,))
    with pytest.raises(CompileError, match=r"5"):
        sharing.compile(builder.build(builder.relu(builder.input)), samples=np.zeros((2, 5)))


@pytest.mark.parametrize(
    ("images", "wanted"),
    [
        (np.zeros((2, 5)), r"\(2, 5\).*\(N, 4\)"),
        (np.zeros(4), r"\(4,\)"),
        (np.zeros((0, 4)), r"\(0, 4\).*N from 1"),
        (np.array(0.5), r"\(\)"),
        (np.full((1, 4), 1.5), r"from 1\.5 to 1\.5.*0 to 1"),
        (np.full((1, 4), -0.1), r"from -0\.1"),
        (np.full((1, 4), np.nan), "nan"),
        (np.full((1, 4), np.inf), "inf"),
    ],
)
def test_images_that_do_not_fit_are_refused(images: np.ndarray, wanted: str) -> None:
    """Another shape, no image at all, values outside the range: refused before anything is shared."""
    builder = GraphBuilder("images", (4,))
    public = sharing.compile(builder.build(builder.relu(builder.input))).public
    with pytest.raises(ImageError, match=wanted):
        sharing.share_images(public, images)


def test_a_correlation_is_good_for_one_run(rng: np.random.Generator) -> None:
    """The second use is refused before a byte is sent, for either party; so are corrections of another size."""
    builder = GraphBuilder("once", (4,))
    program = sharing.compile(builder.build(builder.relu(builder.dense(builder.input, rng.normal(size=(4, 4))))))
    seeds = Seeds.numbered(1)
    one, zero = sharing.PartyOne(program), sharing.PartyZero(program.public)
    masked = np.concatenate(list(one.masked_weights(seeds.weights)))
    zero.load_masked_weights(lambda buffer: np.copyto(buffer, masked))
    parts = [part.copy() for part in sharing.Dealer(program.public, seeds.weights).deal(1, (seeds.zero, seeds.one))]
    corrections = np.concatenate(parts)
    with pytest.raises(LocalProtocolError, match=rf"{corrections.size} bytes .* 2 image"):
        one.prepare(2, seeds.one, corrections)
    owner, share = sharing.share_images(program.public, rng.uniform(0, 1, (1, 4)))
    for party, ready, own in (
        (zero, zero.prepare(1, seeds.zero), owner),
        (one, one.prepare(1, seeds.one, corrections), share),
    ):
        assert repr(ready) == "Prepared(images=1, spent=False)"
        ready.spend()
        with pytest.raises(LocalProtocolError, match="used already"):
            party.run(ready, own, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make", [convolution, grouped, residual, classifier, affine, sparse_maps], ids=lambda m: m.__name__
)
def test_weights_that_nobody_knows(
    rng: np.random.Generator, make: Callable[[GraphBuilder, np.random.Generator], str]
) -> None:
    """Shared weights give the plain results; neither share is the weights; the product costs one more round both ways."""
    builder = GraphBuilder(make.__name__, (3, 9, 8))
    graph = builder.build(make(builder, rng))
    images = rng.uniform(0, 1, (2, 3, 9, 8))
    program = sharing.compile(graph, weights="shared")
    assert np.abs(sharing.run_together(program, images) - run_plain(graph, images)).max() <= TOLERANCE
    zero, one = sharing.share_weights(program)
    for number, (words, _) in program.weights.items():
        assert np.array_equal(zero.weights[number][0] + one.weights[number][0], words)
        assert not np.array_equal(zero.weights[number][0], words)
    with pytest.raises(CompileError, match="not shared"):
        sharing.share_weights(sharing.compile(graph))
