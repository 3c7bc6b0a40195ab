"""The one exception tree of secureimg.

Every message says what was wrong, the actual value, the limit, where it happened and what to do about it. No message
ever holds pixels, shares, keys or ciphertext bytes.
"""

from __future__ import annotations

__all__ = [
    "BlobError",
    "BudgetError",
    "CompileError",
    "DecryptionError",
    "GraphError",
    "ImageError",
    "KeyMaterialError",
    "LocalProtocolError",
    "ParameterError",
    "ProtocolError",
    "PublishingError",
    "RemoteProtocolError",
    "SecureImgError",
    "UnsupportedModelError",
]


class SecureImgError(Exception):
    """Base of every error raised on purpose by secureimg and protocols."""


class ImageError(SecureImgError):
    """An image file is truncated, too large, empty, animated, of a mode or format outside the allow-list."""


class GraphError(SecureImgError):
    """A graph is malformed: shapes that do not fit, unknown names, owner ops before the end."""


class UnsupportedModelError(GraphError):
    """A model file holds nodes that cannot be imported.

    Attributes
    ----------
    nodes : tuple of (name, type, remedy)
        Every unsupported node of the file, not just the first.
    """

    def __init__(self, message: str, nodes: tuple[tuple[str, str, str], ...] = ()) -> None:
        super().__init__(message)
        self.nodes = nodes


class CompileError(SecureImgError):
    """A graph cannot run on the chosen executor: an op it cannot do, a depth or range that does not fit."""


class ParameterError(SecureImgError):
    """Encryption parameters are malformed or below 128-bit security."""


class BlobError(SecureImgError):
    """A serialized object is truncated, oversized, damaged, of another type, version, parameter set or key."""


class KeyMaterialError(SecureImgError):
    """A key file cannot be read: wrong passphrase, wrong permissions, other parameters."""


class DecryptionError(SecureImgError):
    """Decrypted values cannot be an answer of the program: overflow, wrong key or tampering."""


class BudgetError(SecureImgError):
    """A key has been used for as many releases as it was budgeted for."""


class PublishingError(SecureImgError):
    """An image cannot be published as asked: a parameter outside its range, an image that the method does not take."""


class ProtocolError(SecureImgError):
    """A step of a protocol was not legal. See the two subclasses for who is to blame."""


class LocalProtocolError(ProtocolError):
    """Our own side attempted a step that is not legal in its current state."""


class RemoteProtocolError(ProtocolError):
    """The other side sent something that is malformed, too large or not legal in its current state."""
