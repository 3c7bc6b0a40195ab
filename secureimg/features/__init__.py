"""Image features as graphs: the same function in the clear, on CKKS ciphertexts and on additive shares."""

from secureimg.features.hog import BlockNorm, hog

__all__ = ["BlockNorm", "hog"]
