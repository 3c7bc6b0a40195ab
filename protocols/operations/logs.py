"""The process's log: lines for people, or one JSON object a line for machines."""

from __future__ import annotations

import datetime
import logging
import re
import sys
from typing import Any, Final, TextIO

import msgspec

from secureimg.errors import SecureImgError

__all__ = ["FORMATS", "LEVELS", "JsonFormatter", "TextFormatter", "configure", "one_line"]

FORMATS: Final = ("text", "json")
"""How log lines may be written."""

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
"""From which level on."""

_MOST: Final = 8000
_STANDARD: Final = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"))
_KEY: Final = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)


def configure(level: str = "WARNING", format: str = "text", stream: TextIO | None = None) -> None:  # noqa: A002
    """Send the log of the whole process to `stream`. May be called again: the last call counts.

    Handlers that others have put on the root logger stay.

    Parameters
    ----------
    level : str
        One of `LEVELS`, in any case.
    format : str
        One of `FORMATS`.
    stream : file, optional
        Default: stderr.

    Raises
    ------
    SecureImgError
        If the level or the format is none of these.
    """
    if level.upper() not in LEVELS:
        raise SecureImgError(f"the log level {level[:20]!r} does not exist: use one of {', '.join(LEVELS)}")
    if format not in FORMATS:
        raise SecureImgError(f"the log format {format[:20]!r} does not exist: use one of {', '.join(FORMATS)}")
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in ("asyncio", "httpx", "httpcore", "multipart", "PIL", "numba", "matplotlib"):
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))  # what they say below is not for operators
    logging.getLogger("uvicorn").setLevel(max(root.level, logging.ERROR))  # a warning for each request that is damaged
    logging.captureWarnings(format == "json")  # where machines read, every line is an object


class TextFormatter(logging.Formatter):
    """`2026-01-31 12:00:00,000 INFO name: message`. A message is one line; lines of a traceback are indented."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the text without private keys."""
        cached, record.exc_text = record.exc_text, None  # logging shares one traceback between all formatters
        try:
            return _without_keys(super().format(record))
        finally:
            record.exc_text = cached

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Keep what another side sent from faking a line of its own."""
        record.message = one_line(_without_keys(record.message))
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """Indent a traceback: an error's text may be another side's, too."""
        return "\n".join(f"    {one_line(line)}" for line in super().formatException(ei).splitlines())


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, what was given as `extra`, exception as text.

    Only texts, numbers, booleans and None are written out; of anything else, arrays and bytes above all, just the type.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its line feed."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "level": record.levelname,
            "logger": record.name,
            "message": _text(_message(record)),
        }
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD and not key.startswith("_")}
        facts = extra.pop("facts", {})
        for key, value in {**extra, **(facts if isinstance(facts, dict) else {"facts": facts})}.items():
            line.setdefault(_text(str(key)), _plain(value))
        if record.exc_info:
            line["exception"] = _text(self.formatException(record.exc_info))
        if record.stack_info:
            line["stack"] = _text(record.stack_info)
        return msgspec.json.encode(line).decode()


def one_line(text: str) -> str:
    """Return a text in which no character can move the cursor, end the line or change the direction of writing."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


class _Handler(logging.StreamHandler[TextIO]):
    """Never lets a log line that cannot be written end what was logged."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Do without the line: there is nowhere to complain."""


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - a message whose arguments do not fit is still worth a line
        return str(record.msg)


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else str(value)
    return _text(str(value)) if isinstance(value, str) else f"<{type(value).__name__}>"


def _text(text: str) -> str:
    text = _without_keys(text).encode("utf-8", "replace").decode()
    return text if len(text) <= _MOST else f"{text[:_MOST]}... ({len(text)} characters)"


def _without_keys(text: str) -> str:
    return _KEY.sub("<private key>", text) if "PRIVATE KEY" in text else text
