"""Rule: a feature's text builds what its function builds, and a wrong one says what is wrong."""

from __future__ import annotations

import pytest

from secureimg import features
from secureimg.errors import GraphError
from secureimg.graph import run_plain


@pytest.mark.parametrize("name", features.FEATURES)
def test_every_feature_builds_from_its_name(name, rng):
    """With default parameters; the text and the function give one graph."""
    feature = features.FEATURES[name]
    shape = {"sift_orientations": (19, 19), "sift_descriptors": (27, 27)}.get(name, (40, 48))
    shape = shape if 1 in feature.channels else (3, *shape)
    needed = {"output_shape": "20x24"} if name == "resize" else {}
    graph = features.build(features.spell(name, shape, needed))
    direct = feature.function(shape, (20, 24)) if needed else feature.function(shape)
    picture = rng.random((1, *graph.input_shape))
    assert (run_plain(graph, picture) == run_plain(direct, picture)).all()
    assert graph.public  # so that shares do not hide, and round, what everybody knows
    assert graph.preprocessing is not None
    assert graph.preprocessing.size == graph.input_shape[1:]
    assert feature.summary.rstrip(":")[-1:].isalnum() or feature.summary.endswith((".", ")"))


def test_parameters_are_read_as_what_they_are(rng):
    text = features.spell("hog", (3, 40, 48), {"orientations": "6", "cells_per_block": "2x1", "block_norm": "L1"})
    assert text == "feature:hog:3x40x48:orientations=6,cells_per_block=2x1,block_norm=L1"
    wanted = features.hog((3, 40, 48), 6, cells_per_block=(2, 1), block_norm="L1")
    picture = rng.random((1, 3, 40, 48))
    assert (run_plain(features.build(text), picture) == run_plain(wanted, picture)).all()
    assert features.build("feature:hog:40x48:feature_vector=false").output_shape == (3, 4, 3, 3, 9)


@pytest.mark.parametrize(("text", "message"), [
    ("feature:hogg:8x8", "no feature 'hogg'"),
    ("feature:hog", "'' is no size"),
    ("feature:hog:8", "'8' is no size"),
    ("feature:hog:0x8", "'0x8' is no size"),
    ("feature:hog:99999x99999", "no size of at most"),
    ("feature:hog:-8x8", "'-8x8' is no size"),
    ("feature:hog:64x64:orientation=3", "no parameter 'orientation'; its parameters are: orientations"),
    ("feature:hog:64x64:orientations=many", "orientations = 'many' is not written like 9"),
    ("feature:hog:64x64:pixels_per_cell=8", "not written like 8x8"),
    ("feature:hog:64x64:feature_vector=1", "true or false"),
    ("feature:hog:64x64:" + "x" * 400, "characters, the limit is 400"),
])  # fmt: skip
def test_refusals(text, message):
    with pytest.raises(GraphError, match=message):
        features.build(text)
