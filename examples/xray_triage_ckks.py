"""Chest X-ray triage on CKKS: a clinic learns which pictures to look at first; the server that computes it sees ciphertexts.

The clinic keeps its secret key and sorts four pictures by a score that only it can decrypt. The pictures are drawings of a
chest with more and more haze over the lungs, since no patient's may ship here; name your own files instead:
``python examples/xray_triage_ckks.py a.png b.png``. The shipped model is no medical device.
"""

# %% [markdown]
# ## The clinic's pictures

# %%
import sys
import time

import numpy as np

from secureimg import ckks, graph
from secureimg.images import load_image, prepare


def drawn_chest(haze: float, size: int = 112) -> np.ndarray:
    """A chest as an X-ray shows it: bright spine and diaphragm, dark lungs, ribs; haze from 0 to 1 brightens the lungs."""
    y, x = np.mgrid[0:size, 0:size] / size
    sides = [(x - 0.5 - side * (0.13 + 0.22 * y)) / (0.1 + 0.06 * y) for side in (-1, 1)]
    lungs = sum(np.exp(-(across**4) - ((y - 0.45) / 0.3) ** 8) for across in sides)
    spine, diaphragm = np.exp(-(((x - 0.52) / 0.12) ** 2)), 1 / (1 + np.exp(40 * (0.72 - y)))
    body = 0.62 + 0.2 * spine + 0.18 * diaphragm - 0.25 * np.abs(2 * x - 1) ** 8
    cloud = haze * np.exp(-(((y - 0.55) / 0.25) ** 2))
    return np.clip(body - lungs * (0.5 - 0.45 * cloud - 0.02 * np.sin(70 * (y - 0.4 * (x - 0.5) ** 2))), 0, 1)


names = [word for word in sys.argv[1:] if word.endswith((".png", ".jpg"))]
pictures = [load_image(path) for path in names] or [drawn_chest(haze) for haze in (0.8, 0.0, 1.0, 0.2)]
names = names or ["patient A", "patient B", "patient C", "patient D"]
typical = [drawn_chest(haze) for haze in np.linspace(0, 1, 8)]
model = graph.load_model("xray-pneumonia")
w = model.preprocessing
wants = {"mode": w.mode, "size": w.size, "mean": w.mean, "std": w.std}
images, samples = ([prepare(picture, **wants) for picture in some] for some in (pictures, typical))

# %% [markdown]
# ## Keys at the clinic, the program at the server
#
# Samples show how large values get: without them room is made for any kind of picture, and precision is lost. The program
# says what it costs before any key exists. Its public part goes to the clinic, evaluation keys to the server.

# %%
program = ckks.compile(model, samples=np.stack(samples))
keys = ckks.OwnerKeys.generate(program.public)
for_the_server = keys.evaluation_keys()
error, cost = program.public.error_bound, program.cost
print(f"{cost.levels} levels, {cost.rotations} rotations, error at most {error:.1e}")

# %% [markdown]
# ## The server computes on ciphertexts

# %%
scores, seconds = [], []
with ckks.Evaluator(program) as evaluator:
    for image in images:
        blob = keys.encrypt(image[None])  # what leaves the clinic
        start = time.perf_counter()
        encrypted = evaluator.evaluate(for_the_server, blob)  # what the server does and returns
        seconds.append(time.perf_counter() - start)
        scores.append(keys.decrypt(encrypted, 1)[0])

# %% [markdown]
# ## Who is looked at first

# %%
in_clear = graph.run_plain(model.body_and_tail()[0], np.stack(images))
urgency, clear = (np.array([row[1] - row[0] for row in rows]) for rows in (scores, in_clear))
print(f"{'place':>5}  {'picture':<12}  {'answer':<10}  {'encrypted':>10}  {'in the clear':>12}")
for place, i in enumerate(np.argsort(-urgency), start=1):
    answer = model.labels[int(urgency[i] > 0)]
    print(f"{place:>5}  {names[i]:<12}  {answer:<10}  {urgency[i]:>10.4f}  {clear[i]:>12.4f}")
print(f"{len(blob) / 1000:.0f} kB up and {np.median(seconds):.2f} s a picture")
assert list(np.argsort(-urgency)) == list(np.argsort(-clear))
assert np.abs(urgency - clear).max() < 2 * error
