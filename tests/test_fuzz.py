"""The fuzzers, briefly, from a fixed seed.

``python tests/fuzz.py`` runs them for longer, from random ones.
"""

import fuzz
import pytest

EXAMPLES = {"eager": 60, "programs": 40}
SEED = 8


@pytest.mark.parametrize("name", EXAMPLES)
def test_fuzz(name):
    print("to repeat:", fuzz.command(name, SEED, EXAMPLES[name]))
    fuzz.run(name, SEED, EXAMPLES[name])
