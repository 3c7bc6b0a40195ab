"""Measures one row: a model on an executor over a network, every role in a process of its own."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from protocols.cli.options import DealerKind
from protocols.cli.publish_plots import picture_uri
from protocols.cli.remote import labels_of
from secureimg.graph import run_plain, simplify

from .bench_results import Errors, Link, Row, Seen
from .bench_sides import CkksOwner
from .bench_subjects import SAMPLES, Given
from .processes import Child
from .results import Spread, machine, versions
from .share_network import Network
from .share_sides import OwnerSide, PlainSide

__all__ = ["Plan", "key_of", "measure_row"]

Array = NDArray[np.float64]
_PLAIN_CALLS: Final = 5
_LAYER_IMAGES: Final = 3
_BYTES: Final = "bytes of the encrypted picture (dark: unused top bits of its numbers)"
_EDGES: Final = tuple(float(edge) for edge in np.arange(-12, 0.25, 0.5))
_NOISE: Final = 64  # side of the pictures of what was seen


@dataclass(frozen=True)
class Plan:
    """How rows are measured.

    Attributes
    ----------
    repeat : int
        Counted runs at least; each picture is run at least once on loopback.
    cores : int
        All processes share so many; the CKKS server evaluates with as many workers.
    dealer : DealerKind
        Who makes correlations.
    """

    repeat: int
    cores: int
    dealer: DealerKind = DealerKind.DEALER


def key_of(given: Given, executor: str, network: Network, plan: Plan) -> str:
    """Return the digest of everything that a row depends on."""
    told = [given.digest, executor, asdict(network), asdict(plan), machine(), versions()]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def measure_row(
    given: Given, executor: str, network: Network, plan: Plan, *, layers: Child | None = None, relayed: bool = True
) -> Row:
    """Measure one row.

    Parameters
    ----------
    given : Given
    executor : str
        "plain", "ckks" or "shares".
    network : Network
    plan : Plan
    layers : Child, optional
        Of a `LayerSide`: then layers are timed, too.
    relayed : bool
        Relays shape the network; otherwise this process lives in a namespace that is shaped already.

    Raises
    ------
    ChildError
        If the model does not compile for the executor, or a process fails.
    """
    measure = {"plain": _plain, "ckks": _ckks, "shares": _shares}[executor]
    shaped = "nothing" if network.rate is None else "relay processes" if relayed else "netem"
    found = measure(given, network if relayed else Network("loopback"), plan, _turns(given, network, plan))
    if layers is not None:
        found["layers"] = layers.call("measure", executor, given.options, given.shares, given.values[:_LAYER_IMAGES])
    return Row(
        key=key_of(given, executor, network, plan), subject=given.name, executor=executor, network=network.name,
        shaped_by=shaped, **found,
    )  # fmt: skip


def _turns(given: Given, network: Network, plan: Plan) -> list[int]:
    """The picture of each run: the first does not count, and layers are timed on loopback only."""
    count = len(given.values)
    wanted = plan.repeat if network.rate is not None else max(plan.repeat, count)
    return [turn % count for turn in range(-1, wanted)]


def _plain(given: Given, network: Network, plan: Plan, turns: list[int]) -> dict[str, Any]:
    images = given.values[turns[1:]]
    with Child(PlainSide, given.options, threads=plan.cores) as side:
        seconds, values = side.call("evaluate", images, _PLAIN_CALLS)
        peak = side.call("peak_rss")
    spread = Spread.of(seconds)
    return {
        "phases": {"evaluate": spread},
        "total": spread,
        "once": {},
        "peak_rss": {"owner": peak},
        "parameters": {"arithmetic": "float64", "threads": plan.cores},
        "answers": _answers(given, values, turns[1:]),
    }


def _ckks(given: Given, network: Network, plan: Plan, turns: list[int]) -> dict[str, Any]:
    shape = _shape(given)
    with Child(CkksOwner, given.options, plan.cores, network, threads=plan.cores) as owner:
        runs = [owner.call("run", given.values[turn]) for turn in turns][1:]
        facts = owner.call("facts")
        owner.call("run", given.values[0])
        image, size = owner.call("seen", shape)
    phases = {
        name: Spread.of([getattr(run, name) for run in runs]) for name in ("encrypt", "evaluate", "carry", "decrypt")
    }
    total = [run.encrypt + run.evaluate + run.carry + run.decrypt for run in runs]
    values = np.stack([run.values for run in runs])
    return {
        "phases": phases,
        "total": Spread.of(total),
        "once": facts["once"],
        "peak_rss": facts["peak_rss"],
        "links": (
            Link(source="owner", sink="server", when="once", bytes=facts["key_bytes"]),
            Link(source="owner", sink="server", when="online", bytes=runs[-1].up),
            Link(source="server", sink="owner", when="online", bytes=runs[-1].down),
        ),
        "rounds": 1,
        "levels": facts["levels"],
        "rotations": facts["rotations"],
        "galois_keys": facts["galois_keys"],
        "errors": _errors(given, values, turns[1:], facts["bound"]),
        "parameters": facts["parameters"],
        "answers": _answers(given, values, turns[1:]),
        "seen": (Seen(who="server", what=_BYTES, bytes=size, png=picture_uri(image)),),
    }


def _shares(given: Given, network: Network, plan: Plan, turns: list[int]) -> dict[str, Any]:
    with Child(OwnerSide, given.options, given.shares, plan.dealer, network, threads=plan.cores) as owner:
        everything = [owner.call("run", given.values[turn]) for turn in turns]
        facts, public = owner.call("facts"), owner.call("program")
        owner.call("run", given.values[0])
        pictures, sizes = owner.call("seen")
    runs, last = everything[1:], everything[-1]
    values = np.stack([run.values for run in runs])
    dealer = "owner" if plan.dealer is DealerKind.CLIENT_AIDED else "dealer"
    weights = sum(run.weights for run in everything)
    links = (
        Link(source="party 1", sink="party 0", when="once", bytes=weights),
        Link(source=dealer, sink="parties", when="offline", bytes=last.dealt),
        Link(source="owner", sink="parties", when="online", bytes=last.owner_up),
        Link(source="party 0", sink="party 1", when="online", bytes=last.sent[0]),
        Link(source="party 1", sink="party 0", when="online", bytes=last.sent[1]),
        Link(source="parties", sink="owner", when="online", bytes=last.owner_down),
    )
    return {
        "phases": {
            "offline": Spread.of([run.offline for run in runs]),
            "online": Spread.of([run.online for run in runs]),
        },
        "total": Spread.of([run.offline + run.online for run in runs]),
        "once": {"compile": facts["compile"], "session": facts["open"]},
        "peak_rss": facts["peak_rss"],
        "links": links,
        "rounds": last.rounds,
        "errors": _errors(given, values, turns[1:], None),
        "parameters": {**public, "dealer": plan.dealer.value, "threads": plan.cores},
        "answers": _answers(given, values, turns[1:]),
        "seen": tuple(
            Seen(
                who=f"party {party}",
                what="its share of the picture",
                bytes=sizes[party],
                png=picture_uri(_cut(picture)),
            )
            for party, picture in enumerate(pictures)
        ),
    }


def _wanted(given: Given, places: list[int]) -> Array:
    body, _ = given.graph.body_and_tail()
    return run_plain(simplify(body), given.values)[places]


def _errors(given: Given, values: Array, places: list[int], bound: float | None) -> Errors:
    """Compare with the plain model; a feature has no label."""
    wanted = _wanted(given, places)
    off = np.abs(values.reshape(wanted.shape) - wanted)
    most = float(np.abs(wanted).max()) or 1.0
    logs = np.log10(np.maximum(off / most, 10.0 ** _EDGES[0]))
    counts, _ = np.histogram(np.minimum(logs, _EDGES[-1]), _EDGES)
    equal = [a == b for a, b in zip(labels_of(values), labels_of(wanted), strict=True)] if _has_labels(given) else []
    return Errors(
        largest=float(off.max()), relative=float(off.max()) / most, bound=bound, edges=_EDGES,
        counts=tuple(int(count) for count in counts), labels_equal=sum(equal), labels_total=len(equal),
    )  # fmt: skip


def _answers(given: Given, values: Array, places: list[int]) -> tuple[str, ...]:
    """The answer to each picture that is shown."""
    if not _has_labels(given):
        return ()
    found = dict(zip(places, labels_of(values), strict=True))
    return tuple(
        given.label(found[place]) if place in found else "" for place in range(min(SAMPLES, len(given.values)))
    )


def _has_labels(given: Given) -> bool:
    """Whether the largest output says anything: of a feature it does not."""
    return not given.options.model.startswith("feature:")


def _shape(given: Given) -> tuple[int, int]:
    height, width = given.values.shape[-2:] if given.values.ndim == 4 else (_NOISE, _NOISE)
    return min(height, _NOISE), min(width, _NOISE)


def _cut(picture: Array) -> Array:
    return picture[:_NOISE, :_NOISE]
