"""Files in the name of a model: what is relative to whom."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote, unquote

__all__ = ["with_files"]


def with_files(name: str, change: Callable[[str], str]) -> str:
    """Return a model's name with each path in it changed.

    Paths are ``*.onnx``, whatever has a slash, and the files of ``gallery:DECISION[,model=NAME]:FILE``; names of shipped
    models and ``feature:NAME:HxW`` have none.
    """
    if name.startswith("feature:"):
        return name
    if name.startswith("gallery:"):
        question, colon, file = name.removeprefix("gallery:").partition(":")
        words = [_word(word, change) for word in question.split(",")]
        return f"gallery:{','.join(words)}{colon}{change(file) if file else ''}"
    return change(name) if name.lower().endswith(".onnx") or "/" in name else name


def _word(word: str, change: Callable[[str], str]) -> str:
    key, equals, value = word.partition("=")
    return f"model={quote(with_files(unquote(value), change), safe='')}" if equals and key == "model" else word
