"""The fuzzers for a minute, from a seed that is always the same, and from one that never is.

``python tests/fuzz.py`` runs them for longer.
"""

import random

import fuzz
import pytest

EXAMPLES = {"eager": 200, "programs": 120}


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("fixed", [True, False], ids=["fixed", "random"])
def test_fuzz(name, fixed):
    seed = 8 if fixed else random.SystemRandom().randrange(2**32)
    print("to repeat:", fuzz.command(name, seed, EXAMPLES[name]))
    fuzz.run(name, seed, EXAMPLES[name])
