"""Limits: more than can be numbered, or than there is memory for, is refused before it is begun."""

import os

import numpy as np
import pytest
from alive import entries_alive
from oracles import run_snippet

import fastgrad
from fastgrad import Value, tape, trace
from fastgrad.recording import Recording

MOST = 2**31 - 1 - 16
PROGRAM_S = 2**30 - 2


@pytest.mark.parametrize("count", [MOST + 1, 2**31, 2**32 + 1, 2**62])
def test_counts_past_32_bits_are_refused(count):
    text = f"^words: {count} are needed, at most {MOST} can be numbered$"
    with pytest.raises(MemoryError, match=text):
        tape.check_count(count, "words")


def test_counts_up_to_the_limit_are_not():
    tape.check_count(MOST, "words")
    tape.check_count(2**62, "words", 2**62)


class Claimed(list):
    """A list that claims to have more items than there are."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count


@pytest.mark.parametrize("more", [2**31, 2**40])
def test_entries_of_the_tape(more):
    x = Value(3.0)
    y = x * x
    before = entries_alive()
    with pytest.raises(MemoryError, match=rf"^the tape's entries: \d+ are needed, at most {MOST} "):
        trace.begin(Claimed(more))
    assert not trace.is_tracing()
    assert entries_alive() == before  # and entries may move again
    y.backward()
    assert (y.data, x.grad, (y + 1).data) == (9.0, 6.0, 10.0)


def recording(parameters):
    bytes_, words = np.zeros(1, np.uint8), np.zeros(1, np.int32)
    return Recording(parameters, 0, (bytes_, words, words, np.zeros(1), words[:0], words))


def test_parameters_and_entries_of_a_program():
    assert recording(PROGRAM_S - 1).parameters == PROGRAM_S - 1
    text = (
        f"^a program's parameters and entries: {PROGRAM_S + 1} are needed, "
        f"at most {PROGRAM_S} can be numbered$"
    )
    with pytest.raises(MemoryError, match=text):
        recording(PROGRAM_S)


@pytest.fixture
def program():
    w = Value(2.0)
    return fastgrad.compile(lambda x: w * x)


def repeated(*shape):
    """So many numbers, all of them one."""
    return np.broadcast_to(np.float64(1.5), shape)


@pytest.mark.parametrize("shape", [(2**31,), (2**20, 2**20), (2**15, 2**15, 2)])
def test_numbers_of_a_sample(program, shape):
    text = rf"^the numbers of a sample: \d+ are needed, at most {MOST} can be numbered$"
    with pytest.raises(MemoryError, match=text):
        program(repeated(1, *shape))
    assert program.signatures == []
    assert program([3.0]).tolist() == [6.0]


def test_samples_of_a_run(program):
    samples = 2**59
    pair = fastgrad.compile(lambda x: [x, x + 1])
    text = f"^the samples of a run: {samples} are needed, at most {samples - 1} can be numbered$"
    with pytest.raises(MemoryError, match=text):
        pair(repeated(samples))
    with pytest.raises(MemoryError, match=r"^Unable to allocate 4\.00 EiB"):
        program(repeated(samples))
    with pytest.raises(MemoryError, match=f"^no memory for the outputs of {samples} samples$"):
        program.backward(repeated(samples))
    (w,) = program.parameters
    assert w.grad == 0
    assert program.backward([3.0]) == 6.0
    assert w.grad == 3.0


@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="sanitizers reserve terabytes")
def test_the_system_has_no_more_memory():
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "RLIMIT_AS") or not os.path.exists("/proc/self/statm"):
        pytest.skip("needs a limit on the address space")
    text, same, grad, after = run_snippet(
        """
import resource
from pathlib import Path
from fastgrad import Value

w = Value(1.0)
y = w * 2.0
pages = int(Path("/proc/self/statm").read_text().split()[0])
most = pages * resource.getpagesize() + (200 << 20)
no_limit = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (most, no_limit[1]))
count = 0
try:
    while True:
        y = y + w
        count += 1
except MemoryError as error:
    text = str(error)
same = y.data == 2.0 + count and count > 1_000_000
y.backward()
grad = w.grad - count
del y
for _ in range(10):
    z = w
    for _ in range(100_000):
        z = z + w
answer([text, same, grad, z.data])
"""
    )
    assert text.startswith("no memory for ") and text.endswith(" bytes on the tape")
    assert (same, grad, after) == (True, 2.0, 100_001.0)
