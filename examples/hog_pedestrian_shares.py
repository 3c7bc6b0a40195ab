"""A pedestrian detector's window on shares: HOG and a linear SVM as one program, which tells yes or no and nothing else.

The model owner (party 1) trains on drawn walkers over photographs and on photographs alone. The camera's owner shares
windows of 64x32 pixels with the two parties and learns one bit for each. Backgrounds come with scikit-image.
"""

import time

import numpy as np
from skimage import color, data
from skimage.draw import disk, line
from skimage.feature import hog as reference
from skimage.morphology import dilation
from skimage.morphology import disk as round_brush
from sklearn.svm import LinearSVC

from secureimg import features, graph, sharing

HOG = {"orientations": 9, "pixels_per_cell": (8, 8), "cells_per_block": (2, 2), "block_norm": "L2"}
SIZE = (64, 32)
rng = np.random.default_rng(3)


def walker() -> np.ndarray:
    """A mask of somebody who walks: head, trunk, two legs, two arms, each time in another stride."""
    mask = np.zeros(SIZE, dtype=bool)
    stride, sway = rng.uniform(3, 8), rng.uniform(2, 6)
    hip, neck, middle = 34 + rng.integers(-2, 3), 17, 16
    ends = [(hip, middle, 60, middle - stride), (hip, middle, 60, middle + stride), (neck, middle, hip, middle)]
    ends += [(neck + 3, middle, 36, middle - sway), (neck + 3, middle, 36, middle + sway)]
    for ends_of_limb in ends:
        mask[line(*(int(value) for value in ends_of_limb))] = True
    mask = dilation(mask, round_brush(2))
    mask[disk((11, middle), 5)] = True
    return mask


def window(scenes: list[np.ndarray], with_walker: bool) -> np.ndarray:
    """Part of a photograph, with somebody in it or not."""
    scene = scenes[rng.integers(len(scenes))]
    top, left = (rng.integers(0, length - side) for length, side in zip(scene.shape, SIZE, strict=True))
    part = scene[top : top + SIZE[0], left : left + SIZE[1]].copy()
    if with_walker:
        part[walker()] = (part.mean() + 0.5) % 1.0
    return np.rint(255 * np.clip(part + rng.normal(scale=0.02, size=SIZE), 0, 1)) / 255


def windows(scenes: list[np.ndarray], count: int) -> tuple[np.ndarray, np.ndarray]:
    """As many with walkers as without."""
    present = np.arange(count) % 2 == 0
    return np.stack([window(scenes, bool(there)) for there in present]), present


grey = [color.rgb2gray(data.coffee()), color.rgb2gray(data.rocket()), data.brick() / 255, data.camera() / 255]
train, truth = windows(grey[:3], 240)
test, present = windows(grey[3:], 16)  # a photograph that the detector was not trained on

machine = LinearSVC(C=0.1, random_state=0).fit([reference(picture, **HOG) for picture in train], truth)
descriptor = features.hog(SIZE, **HOG)
builder = graph.GraphBuilder("svm", descriptor.output_shape)
score = builder.dense(builder.input, machine.coef_, machine.intercept_)
program = sharing.compile(graph.chain(descriptor, builder.build(score)), reveal="label")
cost = sharing.cost_of(program.public)

start = time.perf_counter()
told = sharing.run_together(program, test[:, None]).ravel() > 0
seconds = time.perf_counter() - start
clear = machine.predict([reference(picture, **HOG) for picture in test])
print(f"{'windows':<22}{'right':>6}{'as in the clear':>17}")
for name, chosen in (("with a walker", present), ("without", ~present)):
    print(
        f"{name:<22}{(told == present)[chosen].sum():>4}/{chosen.sum()}{(told == clear)[chosen].sum():>15}/{chosen.sum()}"
    )
print(
    f"{cost.rounds} rounds, {cost.online_bytes / 1e6:.1f} MB between the parties a window, {seconds:.1f} s for {len(test)}"
)
assert (told == clear).all()
assert (told == present).mean() >= 0.85
