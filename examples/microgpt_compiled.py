"""microgpt.py's model as a program: it prints the same names and losses, and runs much faster.

    python examples/microgpt_compiled.py
    python examples/microgpt_compiled.py --steps 1000

If matplotlib is there it draws the losses too, into microgpt.png.

Here is what differs. A program gets a name as numbers that are others at each run, so the code
cannot look at them: an embedding is chosen by `functional.take`, and softmax, whose highest logit
is another one for each name, is `functional.softmax`. The function is traced once for each length
of a name, as the length decides how often its loop runs; these traces take most of the time of the
first hundred steps.

The parameters are ordinary Values. So names are made up by microgpt.py's own code, on this model.
"""

import importlib.util
import math
import random
import statistics
from itertools import pairwise

from microgpt import BLOCK, HEADS, NAMES, WIDTH, add, dot, linear, main, tokenise

import fastgrad
from fastgrad import functional, optim


def attend(query, keys, values):
    """The values, weighted by how well their keys match the query."""
    weights = functional.softmax([dot(query, key) / math.sqrt(len(query)) for key in keys])
    return [dot(weights, column) for column in zip(*values)]


def predict(model, token, position, keys, values):
    """The logits of the token that follows `token`, which is an input."""
    embedding = functional.take(model["token"], token)
    xs = functional.rmsnorm(add(embedding, model["position"][position]))

    normed = functional.rmsnorm(xs)
    query = linear(model["query"], normed)
    keys.append(linear(model["key"], normed))
    values.append(linear(model["value"], normed))
    attended = []
    for start in range(0, WIDTH, WIDTH // HEADS):
        head = slice(start, start + WIDTH // HEADS)
        attended += attend(query[head], [key[head] for key in keys], [v[head] for v in values])
    xs = add(xs, linear(model["attended"], attended))

    hidden = [h.relu() for h in linear(model["hidden"], functional.rmsnorm(xs))]
    xs = add(xs, linear(model["shrink"], hidden))
    return linear(model["logit"], xs)


def compiled_loss(model):
    """A program: the average over a name's tokens of -log(probability the model gave it)."""

    @fastgrad.compile
    def loss_of(tokens):
        keys, values = [], []
        losses = []
        for position, (token, following) in enumerate(pairwise(tokens)):
            logits = predict(model, token, position, keys, values)
            losses.append(functional.cross_entropy(logits, following))
        return sum(losses) / len(losses)

    return loss_of


def train(model, steps):
    """Train on one name a step, and yield its loss before the step."""
    names = random.sample(NAMES, len(NAMES))
    loss_of = compiled_loss(model)
    parameters = [p for rows in model.values() for row in rows for p in row]
    adam = optim.Adam(parameters, betas=(0.85, 0.99))
    for step in range(steps):
        tokens = tokenise(names[step % len(names)])[: BLOCK + 1]
        adam.zero_grad()
        loss = loss_of.backward([tokens])  # a batch of one name
        adam.lr = 0.01 * (1 - step / steps)
        adam.step()
        yield loss


def draw(path, losses):
    """Each name's loss, and the mean of the fifty before it."""
    from matplotlib.figure import Figure

    steps = range(1, len(losses) + 1)
    means = [statistics.fmean(losses[max(0, step - 50) : step]) for step in steps]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, losses, ".", markersize=3, color="tab:gray", label="one name")
    axes.plot(steps, means, color="tab:red", label="mean of 50")
    axes.set(title="microgpt", xlabel="step", ylabel="loss, nats a letter")
    axes.legend()
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    losses = []

    def train_and_note(model, steps):
        for loss in train(model, steps):
            losses.append(loss)
            yield loss

    main(train_and_note)
    if importlib.util.find_spec("matplotlib"):
        draw("microgpt.png", losses)
