"""From a recipe to the two files that ship: weights and card. What the card says is measured on the exported file."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from training.data import Dataset
from training.export import to_onnx
from training.fit import fit, logits, normalised
from training.recipes import Recipe
from training.typical import pack_pictures, typical_pictures

__all__ = ["produce"]

_log = logging.getLogger(__name__)
_FOLDS = 4


def produce(recipe: Recipe, data: Path, out: Path) -> None:
    """Train a recipe on the files in ``data``, and write ``NAME.onnx`` and ``NAME.json`` into ``out``."""
    torch.set_num_threads(1)  # sums in one order, whatever the machine has
    torch.use_deterministic_algorithms(True)
    dataset = recipe.load(data)
    network = _train(recipe, dataset, np.arange(len(dataset.train)), recipe.seed)
    if recipe.sensitivity is not None:
        _shift_bias(network, _threshold(recipe, dataset, recipe.sensitivity))
    height, width = dataset.train.images.shape[1:]
    model = to_onnx(network, recipe.name, (1, height, width), len(recipe.labels))
    card = {
        "name": recipe.name,
        "title": recipe.title,
        "file": f"{recipe.name}.onnx",
        "preprocessing": {
            "mode": "L",
            "size": [height, width],
            "mean": [recipe.schedule.mean],
            "std": [recipe.schedule.std],
        },
        "labels": recipe.labels,
        "accuracy": _measure(recipe, dataset, network, model),
        "trained_on": dataset.source,
        "sha256": hashlib.sha256(model).hexdigest(),
        "seed": recipe.seed,
    }
    if recipe.typical:
        card["typical"] = pack_pictures(typical_pictures(dataset.train))
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{recipe.name}.onnx").write_bytes(model)
    (out / f"{recipe.name}.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    _log.info("%s: %d bytes, %s", recipe.name, len(model), card["accuracy"])


def _train(recipe: Recipe, dataset: Dataset, index: NDArray[np.intp], seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return fit(recipe.network(), dataset.train.take(index), recipe.schedule, seed)


def _threshold(recipe: Recipe, dataset: Dataset, sensitivity: float) -> float:
    """Return the difference of the logits above which lies this share of the second class, in images not trained on."""
    fold = np.random.default_rng(recipe.seed).integers(_FOLDS, size=len(dataset.train))
    difference = np.zeros(len(dataset.train))
    for k in range(_FOLDS):
        network = _train(recipe, dataset, np.flatnonzero(fold != k), recipe.seed + 1 + k)
        left_out = dataset.train.images[fold == k]
        difference[fold == k] = logits(network, normalised(left_out, recipe.schedule)) @ (-1.0, 1.0)
    first, second = (difference[dataset.train.labels == label] for label in (0, 1))
    threshold = float(np.quantile(second, 1 - sensitivity))
    _log.info("threshold %.3f: sensitivity %.3f, specificity %.4f", threshold, sensitivity, (first <= threshold).mean())
    return threshold


@torch.no_grad()
def _shift_bias(network: nn.Sequential, threshold: float) -> None:
    last = network[-1]
    assert isinstance(last, nn.Linear)
    last.bias += torch.tensor((threshold / 2, -threshold / 2))


def _measure(recipe: Recipe, dataset: Dataset, network: nn.Sequential, model: bytes) -> dict[str, float]:
    """Return the accuracy of the exported file on each held-out set; it must agree with the network."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    accuracy = {}
    for name, split in dataset.held_out.items():
        inputs = normalised(split.images, recipe.schedule)
        answers = np.asarray(session.run(None, {"image": inputs.numpy()})[0])
        np.testing.assert_allclose(answers, logits(network, inputs), atol=1e-3)
        right = answers.argmax(axis=1) == split.labels
        accuracy[name] = round(float(right.mean()), 4)
        if len(recipe.labels) == 2:
            for label, text in enumerate(recipe.labels):
                accuracy[f"{name}, {text}"] = round(float(right[split.labels == label].mean()), 4)
    return accuracy
