"""Image features as graphs: the same function in the clear, on CKKS ciphertexts and on additive shares."""

from secureimg.features.catalogue import FEATURES, PREFIX, Feature, build, find, parse_sides, spell
from secureimg.features.colour import rgb2gray, rgb2ycbcr, rgb2yuv, ycbcr2rgb, yuv2rgb
from secureimg.features.corner_maps import Response, corner_peaks
from secureimg.features.corners import (
    GAIN,
    LARGEST_TRACE,
    HarrisMethod,
    corner_harris,
    corner_shi_tomasi,
    det_minus_trace,
    harris,
    harris_mix,
    shi_tomasi,
    smoothed,
    structure_tensor,
)
from secureimg.features.edges import prewitt, prewitt_h, prewitt_v, scharr, scharr_h, scharr_v, sobel, sobel_h, sobel_v
from secureimg.features.filters import box, gaussian, laplace, separable
from secureimg.features.gabor import gabor, gabor_bank
from secureimg.features.hog import BlockNorm, hog
from secureimg.features.lbp import LbpMethod, local_binary_pattern
from secureimg.features.matching import (
    Metric,
    OwnGallery,
    best_match,
    cosine,
    hamming,
    ranking,
    squared_euclidean,
    threshold_match,
)
from secureimg.features.moments import moments, moments_central, moments_hu, moments_normalized
from secureimg.features.projection import PrincipalComponents, embedding, fit_pca, pca_projection
from secureimg.features.resizing import pyramid_gaussian, pyramid_reduce, resize
from secureimg.features.statistics import color_moments, gradient_energy, histogram
from secureimg.features.transforms import block_dct, haar, integral_image

__all__ = [
    "FEATURES",
    "GAIN",
    "LARGEST_TRACE",
    "PREFIX",
    "BlockNorm",
    "Feature",
    "HarrisMethod",
    "LbpMethod",
    "Metric",
    "OwnGallery",
    "PrincipalComponents",
    "Response",
    "best_match",
    "block_dct",
    "box",
    "build",
    "color_moments",
    "corner_harris",
    "corner_peaks",
    "corner_shi_tomasi",
    "cosine",
    "det_minus_trace",
    "embedding",
    "find",
    "fit_pca",
    "gabor",
    "gabor_bank",
    "gaussian",
    "gradient_energy",
    "haar",
    "hamming",
    "harris",
    "harris_mix",
    "histogram",
    "hog",
    "integral_image",
    "laplace",
    "local_binary_pattern",
    "moments",
    "moments_central",
    "moments_hu",
    "moments_normalized",
    "parse_sides",
    "pca_projection",
    "prewitt",
    "prewitt_h",
    "prewitt_v",
    "pyramid_gaussian",
    "pyramid_reduce",
    "ranking",
    "resize",
    "rgb2gray",
    "rgb2ycbcr",
    "rgb2yuv",
    "scharr",
    "scharr_h",
    "scharr_v",
    "separable",
    "shi_tomasi",
    "smoothed",
    "sobel",
    "sobel_h",
    "sobel_v",
    "spell",
    "squared_euclidean",
    "structure_tensor",
    "threshold_match",
    "ycbcr2rgb",
    "yuv2rgb",
]
