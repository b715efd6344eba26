"""A script as people write them for micrograd; nothing in it knows fastgrad.

    python -m fastgrad examples/moons.py      on fastgrad
    python examples/moons.py                  on micrograd, if that is installed

Both print the same numbers.
"""

import math
import random

from micrograd.engine import Value
from micrograd.nn import MLP

random.seed(1337)

# Two half circles, interleaved: the label is -1 on the outer one, 1 on the inner one.
points, labels = [], []
for i in range(50):
    angle = math.pi * i / 49
    points.append((math.cos(angle) + random.gauss(0, 0.1), math.sin(angle) + random.gauss(0, 0.1)))
    labels.append(-1)
    points.append(
        (1 - math.cos(angle) + random.gauss(0, 0.1), 0.5 - math.sin(angle) + random.gauss(0, 0.1))
    )
    labels.append(1)

model = MLP(2, [16, 16, 1])
print(model)
print("number of parameters", len(model.parameters()))

steps = 20
for k in range(steps):
    inputs = [list(map(Value, point)) for point in points]
    scores = list(map(model, inputs))
    losses = [(1 + -label * score).relu() for label, score in zip(labels, scores)]
    data_loss = sum(losses) * (1.0 / len(losses))
    reg_loss = 1e-4 * sum(p * p for p in model.parameters())
    total_loss = data_loss + reg_loss
    accuracy = [(label > 0) == (score.data > 0) for label, score in zip(labels, scores)]

    model.zero_grad()
    total_loss.backward()
    learning_rate = 1.0 - 0.9 * k / steps
    for p in model.parameters():
        p.data -= learning_rate * p.grad

    hits = sum(accuracy) / len(accuracy)
    print(f"step {k} loss {total_loss.data:.6f}, accuracy {hits * 100:.0f}%")
