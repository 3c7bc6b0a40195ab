"""What servers tell about themselves: one place that writes the audit record, counts the metric and says the log line."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from protocols.operations.allowance import Allowance

if TYPE_CHECKING:
    from protocols.operations.audit import AuditLog, Fact
    from protocols.operations.metrics import Metrics

__all__ = ["Observer"]

_log = logging.getLogger(__name__)

_WHO: Final = 12
"""Digits of an owner's fingerprint in the log; the audit log has all of them."""

_OURS: Final = frozenset(("opened", "answered", "refused", "closed", "continued", "torn"))
"""Records that an event must not be taken for."""


class Observer:
    """What a server calls when something happens that its operator, or an auditor, must be able to find later.

    Safe to call from any thread. Metrics and log never raise. The audit log raises in `answered` alone: no answer may leave
    that it does not tell of.

    Parameters
    ----------
    audit : AuditLog, optional
        Without it nothing is recorded.
    metrics : Metrics, optional
        Without it nothing is counted.

    Notes
    -----
    Answers and the server's own events are always recorded. What an owner can cause without getting an answer (sessions
    opened and closed, refusals) is recorded up to 600 times at once and then 60 times a minute for each owner; what is left
    out is counted in the owner's next record ("omitted"). So an owner that hammers at the door cannot fill the disk.
    """

    def __init__(self, audit: AuditLog | None = None, metrics: Metrics | None = None) -> None:
        self._audit, self._metrics = audit, metrics
        self._allowance = Allowance()

    def opened(self, owner: str, *, model: str, program: str, dealer: str = "") -> None:
        """Tell that a session began.

        Parameters
        ----------
        owner : str
            Hexadecimal SHA-256 fingerprint of the owner's certificate, or the id of its token.
        model, program : str
            The model's name and the program's fingerprint.
        dealer : str
            Who deals: "client-aided", "dealer"; empty on CKKS.
        """
        self._note(owner, "opened", model=model, program=program, dealer=dealer)
        self._count(lambda metrics: metrics.opened())
        _say(
            logging.INFO,
            f"owner {owner[:_WHO]}: session for model {model}",
            {"owner": owner[:_WHO], "program": program},
        )

    def answered(
        self,
        owner: str,
        *,
        session: str,
        model: str,
        program: str,
        images: int,
        reveal: str,
        seconds: float,
        waited: float = 0.0,
        correlation: str = "",
    ) -> None:
        """Record an answer. Call it when the answer is ready and before its first byte leaves; on an error, send none.

        Parameters
        ----------
        owner : str
            As in `opened`.
        session : str
            Id of the session or request, the same in the owner's and the other party's records if there is one.
        model, program : str
            As in `opened`.
        images : int
            How many images it answers.
        reveal : str
            What the answer tells: "scores", "label", "top-k", "shares", or "encrypted".
        seconds, waited : float
            Time of the evaluation, and in the queue before it.
        correlation : str
            On shares: id of the correlation that was spent, the same in both parties' records. No other answer has it.

        Raises
        ------
        AuditError
            If the record is not safely on disk. The answer must not leave then.
        """
        facts: dict[str, Fact] = {
            "session": session, "model": model, "program": program, "images": images, "reveal": reveal,
            "seconds": round(seconds, 4), "waited": round(waited, 4),
        }  # fmt: skip
        if correlation:
            facts["correlation"] = correlation
        at: dict[str, Fact] = {}
        if self._audit is not None:
            receipt = self._audit.record("answered", owner=owner, facts={**facts, **self._omitted(owner)}, durable=True)
            at = {"audit": receipt.sequence, "audit_head": receipt.head}
        self._count(lambda metrics: metrics.answered(reveal, images, seconds, waited))
        text = f"owner {owner[:_WHO]}: answered {images} image{'s' * (images != 1)} in {seconds:.3f} s"
        _say(logging.INFO, text, {"owner": owner[:_WHO], **facts, **at})

    def refused(self, owner: str, *, code: str, message: str) -> None:
        """Tell that a request got no answer.

        Parameters
        ----------
        owner : str
            As in `opened`; empty if it is not known.
        code : str
            A value of `protocols.messages.Code`.
        message : str
            What the owner was told.
        """
        self._note(owner, "refused", code=code, message=message)
        self._count(lambda metrics: metrics.refused(code))
        _say(
            logging.WARNING, f"owner {owner[:_WHO]}: refused ({code}): {message}", {"owner": owner[:_WHO], "code": code}
        )

    def closed(self, owner: str) -> None:
        """Tell that a session ended, however it did: once for each `opened`."""
        self._note(owner, "closed")
        self._count(lambda metrics: metrics.closed())
        _say(logging.INFO, f"owner {owner[:_WHO]}: session ended", {"owner": owner[:_WHO]})

    def transferred(self, *, received: int = 0, sent: int = 0) -> None:
        """Count bytes on the wire, if the caller knows them."""
        self._count(lambda metrics: metrics.transferred(received, sent))

    def event(self, name: str, /, **facts: Fact) -> None:
        """Tell of something that the server did itself: start, stop, model swapped, stock filled.

        Parameters
        ----------
        name : str
            One of few fixed words: it becomes a label of a metric.
        **facts : str, int, float, bool or None
            What belongs to it; never pixels, shares, keys or tokens.
        """
        self._record(f"event: {name}" if name in _OURS else name, "", facts)
        self._count(lambda metrics: metrics.event(name))
        told = ", ".join(f"{key} {value}" for key, value in facts.items())
        _say(logging.INFO, f"{name}: {told}" if told else name, {"event": name, **facts})

    def gauge(self, name: str, meaning: str, read: Callable[[], float], /) -> None:
        """Have a number read whenever the metrics are: length of a queue, stock, open connections.

        Parameters
        ----------
        name : str
            In snake case with its unit; "secureimg_" is put before it. A name that is there already is replaced: after a
            model swap its successor may tell the number.
        meaning : str
            One sentence for whoever reads the metrics.
        read : callable
            Returns the number at once; from any thread. If it raises, the metric is NaN.
        """
        self._count(lambda metrics: metrics.gauge(name, meaning, read))

    def trouble(self) -> str | None:
        """Return why no answer can leave now (the audit log cannot be written), or None. A check for `/readyz`."""
        return None if self._audit is None else self._audit.trouble

    def _note(self, owner: str, event: str, **facts: Fact) -> None:
        if self._audit is None:
            return
        if self._allowance.take(owner):
            self._record(event, owner, {**facts, **self._omitted(owner)})

    def _omitted(self, owner: str) -> dict[str, Fact]:
        count = self._allowance.settle(owner)
        return {"omitted": count} if count else {}

    def _record(self, event: str, owner: str, facts: dict[str, Fact]) -> None:
        if self._audit is None:
            return
        try:
            self._audit.record(event, owner=owner, facts=facts)
        except Exception:  # noqa: BLE001 - nothing leaves with this record; the next answer is stopped by the same fault
            _log.exception("audit record of %r is lost", event)

    def _count(self, change: Callable[[Metrics], None]) -> None:
        if self._metrics is None:
            return
        try:
            change(self._metrics)
        except Exception:  # noqa: BLE001 - a counter must not cost an owner its answer
            _log.exception("a metric is lost")


def _say(level: int, text: str, facts: Mapping[str, Fact]) -> None:
    _log.log(level, "%s", text, extra={"facts": facts})
