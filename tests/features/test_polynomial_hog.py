"""Rule: the polynomial form serves a classifier as scikit-image's HOG does, and is the same on every executor."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data
from skimage.feature import hog as reference
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from secureimg import ckks
from secureimg.errors import CompileError, GraphError
from secureimg.features import hog
from secureimg.features.polynomial_hog import hog_polynomial
from secureimg.graph import run_plain

from .executors import clear, noise, on_shares, same

CAMERA = data.camera() / 255.0
FACE = CAMERA[80:144, 190:254]


def right(rows: np.ndarray, labels: np.ndarray) -> float:
    """Share of held-out pictures that a linear SVM gets right, over six splits; C by cross-validation."""
    found = []
    for split in range(6):
        train, test, known, wanted = train_test_split(rows, labels, test_size=0.4, random_state=split, stratify=labels)
        grid = {"linearsvc__C": [1e-4, 1e-3, 1e-2, 1e-1]}
        search = GridSearchCV(make_pipeline(StandardScaler(), LinearSVC(random_state=0)), grid, cv=3)
        found.append(search.fit(train, known).score(test, wanted))
    return float(np.mean(found))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("options", "loss"), [({}, 0.01), ({"degree": 8}, 0.01), ({"root": False}, 0.03)])
def test_in_a_classifier(options: dict, loss: float) -> None:
    """Faces against other pictures, the same protocol for both features."""
    pictures, labels = data.lfw_subset().astype(np.float64), np.repeat([1, 0], 100)
    wanted = right(np.stack([reference(picture) for picture in pictures]), labels)
    found = right(run_plain(hog_polynomial((25, 25), **options), pictures[:, None]), labels)
    assert wanted > 0.85
    assert found >= wanted - loss


@pytest.mark.parametrize("degree", [4, 8])
@pytest.mark.parametrize("angle", range(10, 180, 20))
def test_the_largest_bin_is_that_of_hog(angle: int, degree: int) -> None:
    """Waves in the direction of a bin's middle: scikit-image's largest bin, and the others fall off to both sides."""
    row, column = np.mgrid[:40, :48] * 0.5
    wave = 0.5 + 0.4 * np.sin(np.cos(np.deg2rad(angle)) * column + np.sin(np.deg2rad(angle)) * row)
    wanted = reference(wave, cells_per_block=(1, 1), feature_vector=False).reshape(5, 6, 9)[1:-1, 1:-1]
    for root in (True, False):
        graph = hog_polynomial(wave.shape, degree=degree, root=root, feature_vector=False)
        found = clear(graph, wave)[1:-1, 1:-1]
        np.testing.assert_array_equal(found.argmax(axis=-1), wanted.argmax(axis=-1))
        turned = np.roll(found, 4 - angle // 20, axis=-1)
        assert (np.diff(turned[..., :5]) > 0).all()
        assert (np.diff(turned[..., 4:]) < 0).all()


@pytest.mark.parametrize("degree", [4, 8])
@pytest.mark.parametrize("orientations", [2, 4, 5, 6, 9, 12, 15])
def test_bins_between_the_directions_taken(orientations: int, degree: int) -> None:
    """Few directions give the rest: as if each bin's own had been taken."""
    picture = noise(24, 20) * np.linspace(0, 1, 20)
    found = clear(hog_polynomial(picture.shape, orientations, (6, 5), degree=degree, root=False), picture)
    across, down = np.zeros_like(picture), np.zeros_like(picture)
    across[:, 1:-1], down[1:-1] = picture[:, 2:] - picture[:, :-2], picture[2:] - picture[:-2]
    factors = np.polynomial.Polynomial([0, 1.9045, -0.7136] if degree == 4 else [0, 3.5470, -6.1039, 4.6206, -1.1580])
    angles = (np.arange(orientations) + 0.5) * np.pi / orientations
    votes = np.stack([factors((np.cos(angle) * across + np.sin(angle) * down) ** 2) for angle in angles], axis=-1)
    same(found, votes.reshape(4, 6, 4, 5, orientations).mean(axis=(1, 3)).ravel())


@pytest.mark.parametrize(("degree", "error"), [(4, 0.14), (8, 0.09)])
def test_magnitude_and_root_are_near_theirs(degree: int, error: float) -> None:
    """Stripes of every contrast: the magnitude in a bin's direction, and a root that grows with it."""
    contrasts = np.linspace(0.02, 1.0, 40)
    stripes = contrasts[:, None, None] * np.tile([0.0, 0.0, 1.0, 1.0], (24, 6))  # each |across| is the contrast
    graphs = [hog_polynomial((24, 24), 2, degree=degree, root=root, feature_vector=False) for root in (False, True)]
    counts, roots = (run_plain(graph, stripes[:, None])[:, 1, 1, 0] for graph in graphs)
    assert np.abs(counts - contrasts * np.cos(np.pi / 4)).max() < error
    assert np.abs(roots - np.sqrt(counts)).max() < 0.06
    assert (np.diff(roots) > 0).all()


def test_no_picture_leaves_the_range_of_the_root() -> None:
    """The steepest pictures there are: waves of four pixels from 0 to 1, along rows, columns and diagonals."""
    row, column = np.mgrid[:32, :32]
    for place in (row, column, row + column, row - column, 2 * row + column):
        picture = ((place % 4) < 2).astype(float)
        for degree in (4, 8):
            count, root = (clear(hog_polynomial((32, 32), degree=degree, root=r), picture) for r in (False, True))
            assert np.abs(root - np.sqrt(np.maximum(count, 0))).max() < 0.06


@pytest.mark.parametrize("options", [{}, {"orientations": 6, "degree": 8, "root": False}])
def test_on_ciphertexts(options: dict) -> None:
    """To the precision that the program was compiled for: a real picture, and the steepest there is, unlike any tried."""
    row, column = np.mgrid[:8, :12]
    steepest = ((row + column) % 4 < 2).astype(float)
    graph = hog_polynomial((8, 12), pixels_per_cell=(4, 4), **options)
    program = ckks.compile(graph)
    keys = ckks.OwnerKeys.generate(program.public)
    public_keys = keys.evaluation_keys()
    with ckks.Evaluator(program) as evaluator:
        for picture in (FACE[:8, :12], steepest):
            answer = evaluator.evaluate(public_keys, keys.encrypt(picture[None, None]))
            same(keys.decrypt(answer, 1)[0], clear(graph, picture), 2.0**-7)


@pytest.mark.parametrize("options", [{}, {"degree": 8}, {"root": False, "pixels_per_cell": (7, 9)}])
def test_on_shares(options: dict) -> None:
    graph = hog_polynomial(FACE.shape, **options)
    same(on_shares(graph, FACE), clear(graph, FACE), 1e-3)


def test_in_colour_the_mean_of_the_channels() -> None:
    picture = np.moveaxis(data.coffee()[100:132, 200:240] / 255.0, -1, 0)
    each = [clear(hog_polynomial(part.shape, root=False), part) for part in picture]
    same(clear(hog_polynomial(picture.shape, root=False), picture), np.mean(each, axis=0))


def test_what_it_is_for() -> None:
    """HOG itself has comparisons, which CKKS has not."""
    with pytest.raises(CompileError, match="Step"):
        ckks.compile(hog((32, 32)))


@pytest.mark.parametrize(("shape", "options", "message"), [
    ((7, 40), {}, "7x40 is smaller than a cell of 8x8"),
    ((64, 64), {"orientations": 65}, "65 orientations"),
    ((64, 64), {"degree": 6}, r"degree 6, it is one of \[4, 8\]"),
    ((64, 64), {"pixels_per_cell": (8, 0)}, r"cells of \(8, 0\)"),
    ((64,), {}, r"\(H, W\) or \(C, H, W\)"),
])  # fmt: skip
def test_refusals(shape: tuple[int, ...], options: dict, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        hog_polynomial(shape, **options)
