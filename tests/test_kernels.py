"""Kernels of every machine variant give the same numbers: each is run in a process of its own."""

import functools
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from fastgrad.replay import VARIANTS

# Layers of all kinds of edges (rows of a tile, panels, columns), powers, and one lane too.
PROGRAM = """
import json, random, sys
import numpy as np
import fastgrad
from fastgrad import functional, nn, replay

random.seed(3)
results = []
for sizes, batch in [
    ((2, 16, 16, 1), 100), ((3, 7, 5, 1), 9), ((17, 9, 1), 4), ((64, 33, 1), 64),
    ((40, 23, 1), 257), ((5, 300, 2, 1), 70), ((31, 31, 1), 1), ((24, 8, 1), 18),
]:
    rng = np.random.default_rng(batch)
    model = nn.MLP(sizes[0], list(sizes[1:]))
    X, Y = rng.normal(size=(batch, sizes[0])), rng.normal(size=batch)

    @fastgrad.compile
    def loss(x, y):
        score = model(x)
        return (1 - y * score).relu() ** 2 + (score**2 + 1) ** -1 + (score**2 + 2) ** 0.5

    outputs = loss(X, Y)
    eager = [loss._function([fastgrad.Value(n) for n in x], y).data for x, y in zip(X, Y.tolist())]
    assert outputs.tolist() == eager
    mean, gradient = loss.value_and_grad(X, Y)
    results.append([mean.hex(), *(number.hex() for number in gradient.tolist())])
print(json.dumps([replay.variant(), results]))
"""


def run(program, kernels):
    environment = os.environ | {"FASTGRAD_KERNELS": kernels}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@functools.cache
def results(kernels):
    """What the newest kernels up to these give: their name, and numbers as hexadecimal text."""
    done = run(PROGRAM, kernels)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def numbers(result):
    return [np.array([float.fromhex(text) for text in row]) for row in result]


@pytest.mark.parametrize("kernels", VARIANTS)
def test_outputs_are_the_operators_to_the_bit(kernels):
    name, _ = results(kernels)  # which asserts it
    if name != kernels:
        pytest.skip(f"this machine has no {kernels}")


def test_gradients_of_wider_vectors_have_the_same_bits():
    (narrow, expected), (wide, got) = results("avx2"), results("avx512")
    if (narrow, wide) != ("avx2", "avx512"):
        pytest.skip("this machine has no AVX-512")
    assert got == expected


def test_gradients_without_fma_agree_within_rounding():
    (name, expected), (_, got) = results("base"), results("avx512")
    assert name == "base"
    for want, have in zip(numbers(expected), numbers(got), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-11, atol=1e-13 * abs(want).max())


def test_an_unknown_variant_is_refused_at_import():
    done = run("import fastgrad.replay", "sse9")
    assert done.returncode
    assert done.stderr.splitlines()[-1] == (
        "ValueError: FASTGRAD_KERNELS is 'sse9' in the environment: expected one of base, avx2, "
        "avx512, or unset it for the newest that this machine can run"
    )
