"""The restoration attack: blur is undone, with its strength known or found from the picture alone."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data
from skimage.restoration import richardson_lucy

from secureimg.errors import PublishingError
from secureimg.publishing import blur, compare_pictures, deblur, estimate_sigma, restoration_attack

FACE = data.astronaut()[0:160, 140:290] / 255.0
CAMERA = data.camera()[::2, ::2] / 255.0


def published(image: np.ndarray, sigma: float) -> np.ndarray:
    return np.rint(blur(image, sigma)[0] * 255) / 255


@pytest.mark.parametrize("sigma", [1.0, 2.0, 4.0, 8.0])
@pytest.mark.parametrize("image", [FACE, CAMERA, data.coins() / 255.0], ids=["face", "camera", "coins"])
def test_the_strength_is_found_from_the_blurred_picture_alone(image: np.ndarray, sigma: float) -> None:
    assert estimate_sigma(published(image, sigma)) == pytest.approx(sigma, rel=0.2)


@pytest.mark.parametrize("sigma", [1.5, 4.0])
def test_blur_is_undone_in_part(sigma: float) -> None:
    """At least 3 dB come back of a face, whether the strength is known or not."""
    grey = FACE.mean(axis=2)
    for known in (sigma, None):
        found = restoration_attack(grey, published(grey, sigma), known)
        assert found.gain >= 3.0
        assert found.after.ssim > found.before.ssim
        assert found.estimated is (known is None)
        assert max(gain for _, gain in found.tried) == pytest.approx(found.gain)
        assert found.after == compare_pictures(grey, found.image)


def test_colour_is_restored_in_each_channel() -> None:
    shown = published(FACE, 2.0)
    restored = deblur(shown, 2.0)
    assert restored.shape == FACE.shape
    assert np.allclose(restored[..., 1], deblur(shown[..., 1], 2.0))
    assert compare_pictures(FACE, restored).psnr > compare_pictures(FACE, shown).psnr + 3


@pytest.mark.parametrize(("filter_name", "setting"), [("wiener", 1e-4), ("richardson-lucy", 30), ("unsupervised", 0)])
def test_borders_are_restored_as_well_as_the_middle(filter_name: str, setting: float) -> None:
    """The picture is continued as the blur continued it: no filter rings at the border."""
    restored = deblur(published(CAMERA, 1.5), 1.5, filter_name, setting)  # type: ignore[arg-type]
    error, before = np.square(restored - CAMERA), np.square(published(CAMERA, 1.5) - CAMERA)
    edge = np.ones(CAMERA.shape, bool)
    edge[6:-6, 6:-6] = False
    assert error[edge].mean() < before[edge].mean()
    assert error[~edge].mean() < before[~edge].mean()


def test_richardson_lucy_is_that_of_scikit_image_away_from_borders() -> None:
    shown = published(CAMERA, 1.0)
    line = np.exp(-0.5 * np.square(np.arange(-4, 5)))
    psf = np.outer(line, line) / line.sum() ** 2
    wanted = richardson_lucy(shown, psf, num_iter=8, clip=False, filter_epsilon=1e-6)
    ours = deblur(shown, 1.0, "richardson-lucy", 8)
    inside = np.s_[80:-80, 80:-80]
    assert np.allclose(ours[inside], np.clip(wanted, 0, 1)[inside], atol=1e-3)


def test_the_attack_gives_the_same_picture_each_time() -> None:
    shown = published(CAMERA, 2.0)
    first, second = (deblur(shown, 2.0, "unsupervised") for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("shape", [(4, 4), (5, 17), (16, 16, 3)])
def test_small_and_flat_pictures_give_finite_ones(shape: tuple[int, ...]) -> None:
    flat = np.full(shape, 0.5)
    assert np.isfinite(deblur(flat, 3.0)).all()
    assert np.isfinite(restoration_attack(flat, flat, 3.0).image).all()


def test_refusals_say_the_limit() -> None:
    with pytest.raises(PublishingError, match="16 is least"):
        estimate_sigma(np.zeros((8, 8)))
    with pytest.raises(PublishingError, match="at most 50"):
        deblur(CAMERA, 51.0)
    with pytest.raises(PublishingError, match="the limit is"):
        deblur(np.zeros((1025, 1024)), 1.0)
    with pytest.raises(PublishingError, match="4 pixels a side"):
        deblur(np.zeros((3, 9)), 1.0)
    with pytest.raises(PublishingError, match="unknown"):
        deblur(CAMERA, 1.0, "magic")  # type: ignore[arg-type]
