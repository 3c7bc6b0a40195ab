"""An album published with a budget: every release has differential privacy, a ledger adds up what they give away together.

The album is 24 faces of scikit-image's part of Labeled Faces in the Wild. Each is published as coarse pixels with noise, for
neighbours that differ in 16 pixels. The ledger refuses the release that would go past its budget, before it is made public.
"""

import numpy as np
from skimage.data import lfw_subset

from secureimg.errors import BudgetError
from secureimg.privacy import Ledger
from secureimg.publishing import compare_pictures, dp_pixelate

HIDDEN = 16  # pixels that may differ; the whole face has 625
faces = np.asarray(lfw_subset(), dtype=np.float64)[:24]
ledgers = [Ledger(name=f"face {number}", epsilon=10.0, unit=HIDDEN) for number in range(len(faces))]

print(f"{'release':>7}  {'cell':>4}  {'epsilon':>7}  {'spent':>5}  {'left':>5}  {'likeness (SSIM)':>15}")
published, refusal = [], ""
for release, (cell, epsilon) in enumerate(((5, 2.0), (5, 4.0), (3, 4.0), (5, 1.0)), start=1):
    made = [dp_pixelate(face, epsilon, neighbours=HIDDEN, cell=cell) for face in faces]
    try:
        charged = [ledger.spend(picture.charge) for ledger, picture in zip(ledgers, made, strict=True)]
    except BudgetError as error:
        refusal = str(error)
        print(f"{release:>7}  {cell:>4}  {epsilon:>7g}  refused")
        break
    ledgers = charged  # kept first; only then may the pictures leave
    published.append([picture.image for picture in made])
    likeness = np.mean([compare_pictures(face, picture.image).ssim for face, picture in zip(faces, made, strict=True)])
    print(
        f"{release:>7}  {cell:>4}  {epsilon:>7g}  {ledgers[0].spent()[0]:>5g}  {ledgers[0].left():>5g}  {likeness:>15.2f}"
    )

guarantee = made[0].guarantee
print(f"\n{guarantee.statement}\nNeighbours: {guarantee.neighbours}.\n\n{refusal}")
assert len(published) == 3
assert "is spent" in refusal
assert ledgers[0].left() == 0.0
assert all(ledger.from_bytes(ledger.to_bytes()) == ledger for ledger in ledgers)
