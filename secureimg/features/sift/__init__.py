"""SIFT: scale-invariant keypoints and descriptors, with a choice of who learns where the keypoints are."""

from secureimg.features.sift.dense import sift_dense
from secureimg.features.sift.description import sift_descriptors, sift_orientations
from secureimg.features.sift.extrema import sift_extrema
from secureimg.features.sift.finding import PlacesSeenBy, Run, sift
from secureimg.features.sift.keypoints import KeyPoints, oriented, read_extrema
from secureimg.features.sift.patches import sift_patches
from secureimg.features.sift.scales import ScaleSpace

__all__ = [
    "KeyPoints",
    "PlacesSeenBy",
    "Run",
    "ScaleSpace",
    "oriented",
    "read_extrema",
    "sift",
    "sift_dense",
    "sift_descriptors",
    "sift_extrema",
    "sift_orientations",
    "sift_patches",
]
