"""Which executor suits, and why, in words."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from protocols.advice.shares_forecast import SharesForecast
from protocols.advice.study import Cost, Study

__all__ = ["Trust", "Verdict", "judge"]

Say = Callable[[float], str]

_CLOSE: Final = 1.1


class Trust(enum.StrEnum):
    """Whom the image's owner is ready to trust not to collude."""

    NONE = "none"
    PARTIES = "two-parties"
    DEALER = "two-parties-and-dealer"


@dataclass(frozen=True)
class Verdict:
    """What to do.

    Attributes
    ----------
    executor : str or None
        "ckks", "shares", or None if nothing fits.
    dealer : str or None
        On shares: who makes the correlations.
    why : tuple of str
        Sentences.
    alternative : str
        The other executor and its cost, or why it is none.
    change : str or None
        What to change, if nothing fits.
    command : str
        What to run next.
    """

    executor: Literal["ckks", "shares"] | None
    dealer: Literal["client-aided", "dealer"] | None
    why: tuple[str, ...]
    alternative: str
    change: str | None
    command: str


def judge(found: Study, trust: Trust, model: str, options: str, duration: Say, amount: Say) -> Verdict:
    """Choose an executor.

    Parameters
    ----------
    found : Study
    trust : Trust
    model, options : str
        As they stand on a command line.
    duration, amount : callable
        Seconds and bytes in units for people.
    """
    return _Judge(found, trust, model, options, duration, amount).run()


@dataclass(frozen=True)
class _Judge:
    found: Study
    trust: Trust
    model: str
    options: str
    duration: Say
    amount: Say

    def run(self) -> Verdict:
        costs, refused = self.found.costs, self.found.refused
        allowed = [name for name in costs if name == "ckks" or self.trust is not Trust.NONE]
        if not allowed:
            return self._nothing()
        dealer: Literal["client-aided", "dealer"] = "dealer" if self.trust is Trust.DEALER else "client-aided"
        if self._chosen(allowed) == "shares":
            why = (self._trust_of_shares(dealer), *self._facts_of_shares())
            command = f"secureimg run {self.model} INPUT --on shares --dealer {dealer}{self.options}"
            return Verdict("shares", dealer, why, self._other("ckks", refused.get("ckks")), None, command)
        why = (self._trust_of_ckks(), *self._facts_of_ckks())
        command = f"secureimg run {self.model} INPUT --on ckks{self.options}"
        return Verdict("ckks", None, why, self._other("shares", refused.get("shares")), None, command)

    def _chosen(self, allowed: list[str]) -> str:
        if len(allowed) == 1:
            return allowed[0]
        ckks, shares = (self.found.costs[name].total_seconds for name in ("ckks", "shares"))
        return "shares" if shares * _CLOSE < ckks else "ckks"  # of two that are as fast, the one that trusts fewer

    def _nothing(self) -> Verdict:
        refused = self.found.refused
        reason = refused.get("ckks", "")
        change = f"CKKS cannot run it: {_sentence(reason)}"
        if "shares" in self.found.costs:
            change += (
                " Or let two parties that do not collude compute on shares (--trust two-parties): "
                f"{self._price('shares')}."
            )
        elif "shares" in refused:
            change += f" Shares cannot run it either: {_sentence(refused['shares'])}"
        replaceable = "replace_activations" in reason and "--replace-activations" not in self.options
        command = f"secureimg advise {self.model} --replace-activations 4 --samples FILE.npy{self.options}"
        if not replaceable:
            command = f"secureimg inspect {self.model} --on ckks{self.options}"
        return Verdict(None, None, (), self._other("shares", refused.get("shares")), change, command)

    def _trust_of_ckks(self) -> str:
        if self.trust is Trust.NONE:
            return "Trust: only the owner can decrypt; no two servers have to stay apart."
        return "Trust: it takes no promise that two servers do not collude."

    def _trust_of_shares(self, dealer: str) -> str:
        third = "the owner deals for its own images" if dealer == "client-aided" else "a third process deals"
        return f"Trust: two parties that do not collude are there, and {third}."

    def _facts_of_ckks(self) -> tuple[str, ...]:
        found, cost = self.found, self.found.costs["ckks"]
        assert found.ckks is not None
        fitted = found.model.fits
        activations = (
            f"Activations: {len(fitted)} are replaced by polynomials, so answers differ from the model's."
            if fitted
            else "Activations: none that ciphertexts cannot compute."
        )
        return (
            activations,
            f"Depth: {found.levels} levels fit into a ring of degree {found.ring_degree} at 128-bit security.",
            f"Latency: {self.duration(cost.answer_seconds)} an answer over {found.network.name}, of which evaluation "
            f"{self.duration(found.ckks.evaluate_seconds)}; keys first, {self.duration(cost.once_seconds)} once."
            + self._compared("ckks"),
            f"Bytes: {self.amount(cost.image_bytes)} an image, and {self.amount(cost.once_bytes)} of evaluation keys once.",
        )

    def _facts_of_shares(self) -> tuple[str, ...]:
        found, cost = self.found, self.found.costs["shares"]
        assert found.shares is not None
        blocked = found.refused.get("ckks")
        first = (
            "Activations and depth: CKKS cannot run it as it is (below); shares compute ReLU and max pool exactly."
            if blocked
            else "Activations and depth: exact on shares, at any depth."
        )
        return (
            first,
            f"Latency: {self.duration(cost.answer_seconds)} an answer over {found.network.name} in {found.shares.rounds} "
            f"rounds, after {self.duration(cost.offline_seconds)} of preparation without the image."
            + self._compared("shares"),
            self._bytes_of_shares(cost, found.shares),
        )

    def _bytes_of_shares(self, cost: Cost, shares: SharesForecast) -> str:
        return (
            f"Bytes: {self.amount(cost.image_bytes)} an image, of which {self.amount(shares.dealt_bytes)} are dealt before; "
            f"{self.amount(cost.once_bytes)} of masked weights once."
        )

    def _compared(self, chosen: str) -> str:
        costs = self.found.costs
        other = "shares" if chosen == "ckks" else "ckks"
        if other not in costs:
            return ""
        ratio = costs[other].total_seconds / costs[chosen].total_seconds
        name = {"ckks": "CKKS", "shares": "shares"}[other]
        return f" All {self.found.images} image(s) with everything: {ratio:.2g} times as long on {name}."

    def _price(self, executor: str) -> str:
        cost = self.found.costs[executor]
        return (
            f"{self.duration(cost.answer_seconds)} an answer, {self.duration(cost.offline_seconds)} of preparation, "
            f"{self.amount(cost.image_bytes)} an image"
            if executor == "shares"
            else f"{self.duration(cost.answer_seconds)} an answer, {self.amount(cost.image_bytes)} an image, "
            f"{self.amount(cost.once_bytes)} of keys once"
        )

    def _other(self, executor: str, refused: str | None) -> str:
        name = {"ckks": "CKKS", "shares": "Shares between two parties"}[executor]
        if refused is not None:
            return f"{name}: not possible: {_sentence(refused)}"
        needs = {
            "ckks": "nobody but the owner is trusted with the picture",
            "shares": "needs two parties that do not collude",
        }[executor]
        return f"{name}: {self._price(executor)}; {needs}."


def _sentence(text: str) -> str:
    return text.rstrip(". ") + "."
