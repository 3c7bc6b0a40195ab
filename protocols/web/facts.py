"""What a party tells about its program to owners who have no copy of this package: how to prepare, share and decode."""

from __future__ import annotations

import math

from protocols.messages import InputPreparation
from protocols.preparation import preparation_for
from protocols.web.descriptions import Encoding, Learned, Model, Tail
from secureimg import sharing
from secureimg.graph import Softmax
from secureimg.graph.ops import Op
from secureimg.sharing.ring import byte_width

__all__ = ["describe"]


def describe(public: sharing.PublicProgram, *, party: int, other: str | None, images: int) -> Model:
    """Return what a party tells of a program.

    Parameters
    ----------
    public : PublicProgram
    party : int
        Whose interface it is, 0 or 1.
    other : str or None
        Address of the other party's.
    images : int
        How many images one request may hold.
    """
    first, last = public.registers[0], public.registers[public.output]
    cost = sharing.cost_of(public)
    return Model(
        party=party, other=other, model=public.model, program=public.fingerprint, input_shape=public.input_shape,
        input_range=public.input_range, preparation=_preparation(public), output_shape=public.output_shape,
        labels=public.labels, reveal=public.reveal, top=public.top, tail=tuple(_tail(op) for op in public.tail),
        input=Encoding(
            shape=public.input_shape, width=public.input_width, bytes=byte_width(public.input_width), scale=first.scale,
            share_bytes=public.share_bytes(1),
        ),
        result=Encoding(
            shape=public.result_shape, width=last.width, bytes=byte_width(last.width), scale=last.scale, factor=last.factor,
            code=public.code, share_bytes=public.result_bytes(1),
        ),
        images=images, rounds=cost.rounds, online_bytes=cost.online_bytes, offline_bytes=cost.offline_bytes,
        learns=_learned(public),
    )  # fmt: skip


def _preparation(public: sharing.PublicProgram) -> InputPreparation | None:
    """A model that says nothing about pictures gets them in its own size, values in [0, 1]: see `protocols.pictures`."""
    shape = public.input_shape
    given = preparation_for(public.preprocessing)
    if len(shape) != 3 or shape[0] not in (1, 3):
        return given if given is not None and given.size is not None else None
    if given is None:
        given = InputPreparation(mode="L" if shape[0] == 1 else "RGB", size=None, mean=(0.0,), std=(1.0,))
    if given.size is not None:
        return given
    return InputPreparation(mode=given.mode, size=(shape[1], shape[2]), mean=given.mean, std=given.std)


def _tail(op: Op) -> Tail:
    if isinstance(op, Softmax):
        return Tail("log softmax" if op.log else "softmax", op.axis)
    return Tail("argmax", int(getattr(op, "axis", -1)))


def _learned(public: sharing.PublicProgram) -> tuple[Learned, ...]:
    """Who may learn what, in the words of the security page."""
    count = math.prod(public.output_shape)
    result = {
        "scores": "all scores" if count > 1 else "the score",
        "label": "the label, and no score",
        "top-k": f"the {public.top} best places in order, and no score",
        "shares": "nothing but its shares",
    }[public.reveal]
    weights = {
        "party 1": (" It does not see the weights.", " It has the model."),
        "public": (" It has the model.", " It has the model."),
        "shared": (" It has a share of the weights.", " It has a share of the weights."),
    }[public.weights]
    noise = "Noise: its share of the picture and masked values. Who asks, when, and how many images."
    return (
        Learned("You", f"The result: {result}. The architecture of the model."),
        Learned("Party 0", noise + weights[0]),
        Learned("Party 1", noise + weights[1]),
        Learned(
            "The dealer", "Nothing of the picture. It only makes random numbers, and sees when they are asked for."
        ),
        Learned("Both parties together", "The picture. They must not work together, nor either with the dealer."),
        Learned("The network", "Who talks to whom, when, and how many bytes."),
    )
