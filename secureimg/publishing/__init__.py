"""Images that leave their owner: obfuscation and its failure, differential privacy, sealed and split photographs."""

from __future__ import annotations

from secureimg.publishing.albums import MAX_ALBUM, MAX_ALBUM_BYTES, Album, digits_album, load_album
from secureimg.publishing.cipher_png import decode_cipher_png, encode_cipher_png, encode_picture_png
from secureimg.publishing.distinguishing import Distinction, Mechanism, distinguishing_bound
from secureimg.publishing.guarantee import Guarantee, Kind
from secureimg.publishing.key_files import load_key, load_recipient, save_key, save_recipient
from secureimg.publishing.obfuscation import black_box, blur, k_same, pixelate
from secureimg.publishing.parrot import MethodOfOne, MethodOfSet, ParrotResult, ofset, parrot_attack
from secureimg.publishing.private_features import dp_hog, dp_pca, hog_draws, pca_draws
from secureimg.publishing.private_histograms import dp_histogram, histogram_draws
from secureimg.publishing.private_pixels import blur_draws, dp_blur, dp_pixelate, pixelation_draws
from secureimg.publishing.private_release import Neighbours, PrivateImage, PrivateValues
from secureimg.publishing.private_svd import SVD_UNIT, dp_svd, singular_values, svd_draws
from secureimg.publishing.recipients import HYBRID, X25519, Kem, Recipient, RecipientKey, find_kem
from secureimg.publishing.restoration import Restoration, deblur, estimate_sigma, restoration_attack
from secureimg.publishing.sealed import (
    MAX_RECIPIENTS,
    SealedKind,
    SealedReader,
    Unsealed,
    is_sealed,
    seal,
    seal_guarantee,
    seal_stream,
    sealed_size,
    unseal,
)
from secureimg.publishing.similarity import Similarity, compare_pictures
from secureimg.publishing.split import Split, SplitFacts, join_jpeg, split_guarantee, split_jpeg
from secureimg.publishing.split_coefficients import DEFAULT_THRESHOLD, public_part_picture
from secureimg.publishing.split_pictures import join_pictures
from secureimg.publishing.sweeps import StrengthPoint, Sweep, first_at_chance, last_beaten, strength_sweep
from secureimg.publishing.thumbnails import (
    LARGEST_BLOCK,
    SMALLEST_BLOCK,
    ThumbnailTicket,
    block_sums,
    decrypt_thumbnail,
    encrypt_thumbnail,
    thumbnail_guarantee,
)

__all__ = [
    "DEFAULT_THRESHOLD",
    "HYBRID",
    "LARGEST_BLOCK",
    "MAX_ALBUM",
    "MAX_ALBUM_BYTES",
    "MAX_RECIPIENTS",
    "SMALLEST_BLOCK",
    "SVD_UNIT",
    "X25519",
    "Album",
    "Distinction",
    "Guarantee",
    "Kem",
    "Kind",
    "Mechanism",
    "MethodOfOne",
    "MethodOfSet",
    "Neighbours",
    "ParrotResult",
    "PrivateImage",
    "PrivateValues",
    "Recipient",
    "RecipientKey",
    "Restoration",
    "SealedKind",
    "SealedReader",
    "Similarity",
    "Split",
    "SplitFacts",
    "StrengthPoint",
    "Sweep",
    "ThumbnailTicket",
    "Unsealed",
    "black_box",
    "block_sums",
    "blur",
    "blur_draws",
    "compare_pictures",
    "deblur",
    "decode_cipher_png",
    "decrypt_thumbnail",
    "digits_album",
    "distinguishing_bound",
    "dp_blur",
    "dp_histogram",
    "dp_hog",
    "dp_pca",
    "dp_pixelate",
    "dp_svd",
    "encode_cipher_png",
    "encode_picture_png",
    "encrypt_thumbnail",
    "estimate_sigma",
    "find_kem",
    "first_at_chance",
    "histogram_draws",
    "hog_draws",
    "is_sealed",
    "join_jpeg",
    "join_pictures",
    "k_same",
    "last_beaten",
    "load_album",
    "load_key",
    "load_recipient",
    "ofset",
    "parrot_attack",
    "pca_draws",
    "pixelate",
    "pixelation_draws",
    "public_part_picture",
    "restoration_attack",
    "save_key",
    "save_recipient",
    "seal",
    "seal_guarantee",
    "seal_stream",
    "sealed_size",
    "singular_values",
    "split_guarantee",
    "split_jpeg",
    "strength_sweep",
    "svd_draws",
    "thumbnail_guarantee",
    "unseal",
]
