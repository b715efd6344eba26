"""Training of ``examples/microgpt.py``, and its loss as fastgrad compiles it.

The model is the example's own code each time. What differs is what a program has instead of
Python's control flow: a token is an input, so that its embedding is taken by `functional.take`, and
softmax is `functional.softmax`, as no number can be looked at.
"""

import importlib.util
import random
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

EXAMPLE = Path(__file__).parents[1] / "examples" / "microgpt.py"
HEADS = 4  # of the example


@dataclass(frozen=True)
class Microgpt:
    """Training on names of one length, one a step, by Adam."""

    letters: int = 8
    rate: float = 0.01

    kind = "Microgpt"
    reference = "microgpt's Value"
    steps = 3  # to check, as each is an update

    def __str__(self):
        return f"microgpt, a name of {self.letters} letters"

    def names(self):
        return [name for name in example().NAMES if len(name) == self.letters]

    def tokens(self):
        """Each name as its numbers, for engines of arrays."""
        module = example()
        return [module.tokenise(name) for name in self.names()]

    def matrices(self):
        """The first weights by name, as arrays."""
        model, _ = new_model(example())
        return {name: np.array([[p.data for p in row] for row in m]) for name, m in model.items()}


def example(**replaced):
    """A module of its own from the example's file, with some of its names replaced."""
    spec = importlib.util.spec_from_file_location("microgpt_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module).update(replaced)
    return module


def new_model(module):
    """The example's model with the same numbers each time; and its parameters."""
    random.seed(42)
    model = module.new_model()
    return model, [p for rows in model.values() for row in rows for p in row]


class Rows:
    """A matrix that takes the row of an input: a number from each column."""

    def __init__(self, rows, take):
        self.columns = list(map(list, zip(*rows)))
        self.take = take

    def __getitem__(self, i):
        return [self.take(column, i) for column in self.columns]


def compiled_loss(module, model):
    """A function of one name's tokens, to be compiled."""
    from fastgrad import functional

    module.softmax = functional.softmax
    model = model | {"token": Rows(model["token"], functional.take)}

    def loss(tokens):
        keys, values = [], []
        losses = []
        for position, (token, following) in enumerate(pairwise(tokens)):
            logits = module.predict(model, token, position, keys, values)
            losses.append(functional.cross_entropy(logits, following))
        return sum(losses) / len(losses)

    return loss
