"""What the example does with the trained model: pictures answered on ciphertexts and on shares, and updates inverted."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from protocols.cli.federate_run import Plan
from protocols.cli.remote import labels_of
from secureimg import ckks, sharing
from secureimg.federated import (
    Examples,
    Match,
    Network,
    Terms,
    aggregate_together,
    best_matches,
    dense_network,
    invert_update,
    local_update,
)
from secureimg.graph import Graph, Preprocessing, run_plain
from secureimg.sharing.streams import Stream

__all__ = ["Inversion", "Served", "invert_all", "serve"]

Pictures = NDArray[np.float64]

_BATCH = 8  # pictures of the step that is inverted
_NOISE = 0.5


@dataclass(frozen=True)
class Served:
    """Labels that the executors give for some pictures, beside the labels in the clear, and the largest error of a score."""

    plain: list[int]
    ckks: list[int]
    shares: list[int]
    ckks_error: float
    shares_error: float

    @property
    def equal(self) -> bool:
        """Whether all three agree on each picture."""
        return self.plain == self.ckks == self.shares


def serve(graph: Graph, images: Pictures) -> Served:
    """Answer pictures on CKKS ciphertexts and on shares, all roles in this process."""
    plain = run_plain(graph, images)
    program = ckks.compile(graph, samples=images)
    keys = ckks.OwnerKeys.generate(program.public)
    with ckks.Evaluator(program, 1) as evaluator:
        evaluation_keys = keys.evaluation_keys()
        encrypted = np.stack(
            [keys.decrypt(evaluator.evaluate(evaluation_keys, keys.encrypt(image[None])), 1)[0] for image in images]
        )
    shared = sharing.run_together(sharing.compile(graph, samples=images), images)
    return Served(
        labels_of(plain), labels_of(encrypted), labels_of(shared),
        float(np.abs(encrypted - plain).max()), float(np.abs(shared - plain).max()),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Inversion:
    """One attacked update.

    Attributes
    ----------
    name : str
    pictures : int
        How many were trained on, of all owners together.
    candidates : (K, H, W) float64
        For each of the first owner's pictures the nearest that was found, in [0, 1].
    matches : tuple of Match
    """

    name: str
    pictures: int
    candidates: Pictures
    matches: tuple[Match, ...]

    @property
    def psnr(self) -> float:
        """Median over the pictures, in decibels."""
        return float(np.median([match.psnr for match in self.matches]))

    @property
    def ssim(self) -> float:
        """Median over the pictures."""
        return float(np.median([match.ssim for match in self.matches]))


def invert_all(plan: Plan, preprocessing: Preprocessing) -> tuple[Pictures, list[Inversion]]:
    """Attack one step of each owner: alone, in the sum of all, and in the sum with noise.

    Returns
    -------
    originals : (K, H, W)
        The first owner's pictures of that step, in [0, 1].
    attacks : list of Inversion

    Notes
    -----
    The network starts with a dense layer, where the attack is exact; the example's own starts with a convolution.
    """
    network = dense_network(plan.network.input_shape, plan.network.classes)
    weights = network.initial(Stream(plan.seed, "federate", "inversion"))
    batches = [part.take(np.arange(min(_BATCH, len(part)))) for part in plan.parts]
    originals = _shown(batches[0].images, preprocessing)
    updates = [_one_step(plan, network, weights, batch) for batch in batches]
    count = sum(len(batch) for batch in batches)
    clip = max(float(np.linalg.norm(update)) for update in updates)
    terms = Terms(parameters=network.parameters, clip=clip, owners=len(updates), least=2, noise=_NOISE, weighted=False)
    plain_sum = np.sum([update.astype(np.float64) for update in updates], axis=0)
    given: list[tuple[str, int, NDArray[np.floating]]] = [
        ("one owner's plain update", len(batches[0]), updates[0]),
        (f"the sum over {len(updates)} owners", count, plain_sum),
        (f"the sum with noise {_NOISE:g}", count, aggregate_together(terms, updates).total),
    ]
    single = [part.take(np.arange(1)) for part in plan.parts]
    first_pictures = np.sum([_one_step(plan, network, weights, one).astype(np.float64) for one in single], axis=0)
    given.append((f"the sum over {len(updates)} owners with one picture each", len(single), first_pictures))
    attacks = [_attack(network, weights, *item, originals, preprocessing) for item in given]
    attacks[-1] = _attack(network, weights, *given[-1], originals[:1], preprocessing)
    own = plan.network
    update = _one_step(plan, own, plan.start, single[0])
    attacks.append(
        _attack(own, plan.start, "one picture through convolutions", 1, update, originals[:1], preprocessing)
    )
    return originals, attacks


def _one_step(plan: Plan, network: Network, weights: NDArray[np.float32], batch: Examples) -> NDArray[np.float32]:
    schedule = replace(plan.schedule, epochs=1, batch=len(batch), decay=0.0, calibrated=False)
    return local_update(network, weights, batch, schedule, Stream(plan.seed, "federate", "step"))[0]


def _attack(
    network: Network,
    weights: NDArray[np.float32],
    name: str,
    pictures: int,
    update: NDArray[np.floating],
    originals: Pictures,
    preprocessing: Preprocessing,
) -> Inversion:
    found = invert_update(network, weights, update, pictures=pictures, span=preprocessing.range)
    candidates = _shown(found, preprocessing)
    matches = best_matches(originals, candidates)
    return Inversion(name, pictures, np.stack([candidates[match.candidate] for match in matches]), matches)


def _shown(images: NDArray[np.floating], preprocessing: Preprocessing) -> Pictures:
    """Prepared pictures as grey values in [0, 1]."""
    shape = (1, -1, 1, 1)
    values = images * np.reshape(preprocessing.std, shape) + np.reshape(preprocessing.mean, shape)
    return np.asarray(np.clip(values, 0, 1).mean(axis=1), dtype=np.float64)
