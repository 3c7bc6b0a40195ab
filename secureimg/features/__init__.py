"""Image features as graphs: the same function in the clear, on CKKS ciphertexts and on additive shares."""

from secureimg.features.catalogue import FEATURES, PREFIX, Feature, build, spell
from secureimg.features.hog import BlockNorm, hog
from secureimg.features.lbp import LbpMethod, local_binary_pattern

__all__ = [
    "FEATURES",
    "PREFIX",
    "BlockNorm",
    "Feature",
    "LbpMethod",
    "build",
    "hog",
    "local_binary_pattern",
    "spell",
]
