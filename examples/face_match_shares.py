"""Face match on shares: is this visitor enrolled? Two parties find out together, and neither sees a face or a score.

Templates are eigenfaces. The gallery belongs to party 1, the probe to the visitor. Opened is one number, and to the visitor
only: the place of the best match, or that none is near enough. Faces: scikit-image's part of Labeled Faces in the Wild.
"""

# %% [markdown]
# ## Templates, made in the clear by whoever owns the faces

# %%
import time

import numpy as np
from skimage.data import lfw_subset

from secureimg import features, graph, sharing

faces = np.asarray(lfw_subset(), dtype=np.float64)[:100, None]
strangers, enrolled, visitors = faces[:60], faces[60:80], faces[80:90]
found = features.fit_pca(strangers, 32)
eigenfaces = features.pca_projection((25, 25), found.components, found.mean)
templates = graph.run_plain(eigenfaces, enrolled)
templates /= np.linalg.norm(templates, axis=1, keepdims=True)

# %% [markdown]
# ## Ten probes: five enrolled people on another day, five who are not enrolled

# %%
noise = np.random.default_rng(7).normal(scale=0.04, size=(5, 1, 25, 25))
another_day = np.clip(np.roll(enrolled[::4], 1, axis=3) * 0.9 + noise, 0, 1)
pictures = np.concatenate([another_day, visitors[:5]])
truth = [0, 4, 8, 12, 16, *[20] * 5]  # place 20 says: none of the 20
probes = graph.run_plain(eigenfaces, pictures)
probes /= np.linalg.norm(probes, axis=1, keepdims=True)

# %% [markdown]
# ## The program, and what it costs
#
# `reveal="label"` opens the place and no score. `run_together` plays all roles in one process, to try it out.

# %%
gate = features.best_match(templates, threshold=0.72)
program = sharing.compile(gate, input_range=(-1, 1), reveal="label")
cost = sharing.cost_of(program.public)
sharing.warm_up()
start = time.perf_counter()
places = sharing.run_together(program, probes).astype(int).ravel()
seconds = time.perf_counter() - start

# %% [markdown]
# ## Who is at the door

# %%
similar = probes @ templates.T
print(f"{'probe':>5}  {'answer on shares':<18}  {'truth':<14}  {'largest cosine, told to nobody':>30}")
for number, (place, right) in enumerate(zip(places, truth, strict=True)):
    said = "not enrolled" if place == 20 else f"person {place}"
    meant = "not enrolled" if right == 20 else f"person {right}"
    print(f"{number:>5}  {said:<18}  {meant:<14}  {similar[number].max():>30.2f}")
print(f"{cost.rounds} rounds, {cost.online_bytes / 1000:.1f} kB between the parties a probe, {seconds:.2f} s for ten")
assert list(places) == truth
