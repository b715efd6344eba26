"""The fuzzers, briefly: once from a fixed seed, once from a random one, which a failure prints.

``python tests/fuzz.py`` runs them for longer.
"""

import random

import fuzz
import pytest

EXAMPLES = {"eager": 60, "programs": 40}


@pytest.mark.parametrize("which", ["fixed", "random"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_fuzz(name, which):
    seed = 8 if which == "fixed" else random.SystemRandom().randrange(2**32)
    print("to repeat:", fuzz.command(name, seed, EXAMPLES[name]))
    fuzz.run(name, seed, EXAMPLES[name])
