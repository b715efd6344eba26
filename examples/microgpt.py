"""A small GPT, written out number by number: it learns first names and makes up new ones.

    python examples/microgpt.py                      on fastgrad
    python examples/microgpt.py --steps 1000         for names that sound better

One layer of a transformer with 16 embedding dimensions, 4 attention heads and a block of 16
characters, trained with Adam, in the manner of Karpathy's microgpt. Every number in it is a Value.
Which Value is up to the one import below: it may be fastgrad's, micrograd's
(``from micrograd.engine import Value``), or a class of your own like the lecture's or microgpt's;
the losses are the same. They go to stdout, the time a step takes to stderr.
"""

import argparse
import math
import random
import statistics
import sys
import time
from itertools import pairwise

from fastgrad.engine import Value

FIRST_NAMES = """
    ada adam agnes alan albert alice amelia amy andrea andrew angela anna anton arthur astrid august
    aurora barbara beatrice benjamin bernard bianca brian bridget bruno camilla carla carmen
    caroline catherine cecilia charles charlotte christine clara claude conrad daniel daria david
    diana dominic doris dorothy edgar edith edward eleanor elena elias elizabeth ella elsa emil
    emily emma eric ernest esther evelyn felix flora florence frances frank frederick gabriel george
    gloria grace greta gustav hannah harold harriet hector helen henry hugo ida ingrid irene iris
    isaac isabel jacob james jane jasper jean jessica john jonas joseph joshua judith julia julian
    karen katherine laura lawrence leah leo leonard lillian linda louis louise lucas lucy lydia
    mabel marcus margaret maria martha martin mary matilda matthew max maya michael miriam monica
    nadia nancy natalie nathan nicholas nina nora norman olga oliver olivia oscar otto patricia paul
    paula peter philip quentin rachel ralph raymond rebecca richard robert rosa rose ruth samuel
    sandra sarah sebastian selma simon sonia sophia stella stephen susan sylvia teresa theodore
    thomas timothy tobias ursula valerie vera victor victoria vincent viola virginia vivian walter
    wanda wendy william xavier yvonne zoe
"""

NAMES = FIRST_NAMES.split()
LETTERS = sorted(set("".join(NAMES)))
EDGE = len(LETTERS)  # the token before the first letter of a name and after the last
TOKENS = len(LETTERS) + 1

WIDTH = 16  # embedding dimensions
HEADS = 4
BLOCK = 16  # positions


# ---- What not every Value has


def node(x, op, data, slope):
    """A function of one Value as a node made by hand, as micrograd's own operators make theirs."""
    out = Value(data, (x,), op)

    def _backward():
        x.grad += slope * out.grad

    out._backward = _backward
    return out


def exp(x):
    if hasattr(x, "exp"):
        return x.exp()
    data = math.exp(x.data)
    return node(x, "exp", data, slope=data)


def log(x):
    return x.log() if hasattr(x, "log") else node(x, "log", math.log(x.data), slope=1 / x.data)


def relu(x):
    if hasattr(x, "relu"):
        return x.relu()
    return node(x, "ReLU", max(0.0, x.data), slope=float(x.data > 0))


# ---- The model


def tokenise(name):
    """A name as numbers, with the edge on both sides."""
    return [EDGE, *map(LETTERS.index, name), EDGE]


def matrix(rows, columns):
    """Small random Values, a list of rows."""
    return [[Value(random.gauss(0, 0.08)) for _ in range(columns)] for _ in range(rows)]


def new_model():
    """The matrices by name. Each but the embeddings maps a vector to one number a row."""
    return {
        "token": matrix(TOKENS, WIDTH),
        "position": matrix(BLOCK, WIDTH),
        "query": matrix(WIDTH, WIDTH),
        "key": matrix(WIDTH, WIDTH),
        "value": matrix(WIDTH, WIDTH),
        "attended": matrix(WIDTH, WIDTH),
        "hidden": matrix(4 * WIDTH, WIDTH),
        "shrink": matrix(WIDTH, 4 * WIDTH),
        "logit": matrix(TOKENS, WIDTH),
    }


def dot(xs, ys):
    return sum(x * y for x, y in zip(xs, ys))


def add(xs, ys):
    return [x + y for x, y in zip(xs, ys)]


def linear(rows, xs):
    return [dot(row, xs) for row in rows]


def softmax(logits):
    """Probabilities. The highest logit is taken off first, so that no exp overflows."""
    highest = max(logit.data for logit in logits)
    powers = [exp(logit - highest) for logit in logits]
    total = sum(powers)
    return [power / total for power in powers]


def rmsnorm(xs):
    """The vector scaled to a root mean square of 1."""
    scale = (dot(xs, xs) / len(xs) + 1e-5) ** -0.5
    return [x * scale for x in xs]


def attend(query, keys, values):
    """The values, weighted by how well their keys match the query."""
    weights = softmax([dot(query, key) / math.sqrt(len(query)) for key in keys])
    return [dot(weights, column) for column in zip(*values)]


def predict(model, token, position, keys, values):
    """The logits of the token that follows `token`.

    `keys` and `values` hold one vector for each position before this one; this one's are appended.
    """
    # Normed here too, else these small numbers drown in what is added to them below.
    xs = rmsnorm(add(model["token"][token], model["position"][position]))

    normed = rmsnorm(xs)
    query = linear(model["query"], normed)
    keys.append(linear(model["key"], normed))
    values.append(linear(model["value"], normed))
    attended = []
    for start in range(0, WIDTH, WIDTH // HEADS):
        head = slice(start, start + WIDTH // HEADS)
        attended += attend(query[head], [key[head] for key in keys], [v[head] for v in values])
    xs = add(xs, linear(model["attended"], attended))

    hidden = [relu(h) for h in linear(model["hidden"], rmsnorm(xs))]
    xs = add(xs, linear(model["shrink"], hidden))
    return linear(model["logit"], xs)


def loss_of(model, name):
    """The average over a name's tokens of -log(probability the model gave it)."""
    tokens = tokenise(name)[: BLOCK + 1]
    keys, values = [], []
    losses = []
    for position, (token, following) in enumerate(pairwise(tokens)):
        chances = softmax(predict(model, token, position, keys, values))
        losses.append(-log(chances[following]))
    return sum(losses) / len(losses)


# ---- Training and sampling


class Adam:
    """Moves each parameter against its gradient, scaled by how large that gradient usually is."""

    def __init__(self, parameters):
        self.parameters = parameters
        self.means = [0.0] * len(parameters)
        self.squares = [0.0] * len(parameters)
        self.steps = 0

    def step(self, rate, decay=0.85, square_decay=0.99):
        """Update every parameter from its gradient, then clear the gradient."""
        self.steps += 1
        # Both averages start at 0; these make up for it.
        mean_share = 1 - decay**self.steps
        square_share = 1 - square_decay**self.steps
        for i, p in enumerate(self.parameters):
            gradient = p.grad
            self.means[i] = decay * self.means[i] + (1 - decay) * gradient
            self.squares[i] = square_decay * self.squares[i] + (1 - square_decay) * gradient**2
            spread = math.sqrt(self.squares[i] / square_share)
            p.data -= rate * (self.means[i] / mean_share) / (spread + 1e-8)
            p.grad = 0


def train(model, steps):
    """Train on one name a step, and yield its loss before the step."""
    names = random.sample(NAMES, len(NAMES))
    adam = Adam([p for rows in model.values() for row in rows for p in row])
    for step in range(steps):
        loss = loss_of(model, names[step % len(names)])
        loss.backward()
        adam.step(rate=0.01 * (1 - step / steps))
        yield loss.data


def sample(model, temperature):
    """A new name. The lower the temperature, the more often the likeliest letter is taken."""
    keys, values = [], []
    token, name = EDGE, ""
    for position in range(BLOCK):
        logits = predict(model, token, position, keys, values)
        chances = softmax([logit / temperature for logit in logits])
        (token,) = random.choices(range(TOKENS), [chance.data for chance in chances])
        if token == EDGE:
            break
        name += LETTERS[token]
    return name


def main(train=train):
    parser = argparse.ArgumentParser(description="Train a small GPT on first names.")
    parser.add_argument("--steps", type=int, default=100, help="names to train on (100)")
    parser.add_argument("--samples", type=int, default=10, help="names to make up (10)")
    parser.add_argument("--seed", type=int, default=42, help="of all random numbers (42)")
    options = parser.parse_args()

    random.seed(options.seed)
    model = new_model()
    start = time.perf_counter()
    losses = []
    for loss in train(model, options.steps):
        losses.append(loss)
        step = len(losses)
        if step % 10 == 0 or step == options.steps:
            # The mean of ten, as one name's loss differs more from the next one's than it falls.
            print(f"step {step:4d} / {options.steps}  loss {statistics.fmean(losses[-10:]):.4f}")
    if losses:
        ms = 1000 * (time.perf_counter() - start) / len(losses)
        print(f"ms a step: {ms:.1f}", file=sys.stderr)
    for _ in range(options.samples):
        print(sample(model, temperature=0.5))


if __name__ == "__main__":
    main()
