"""Memory that runs out: each allocation of a call fails in turn, wherever it is.

Such a call raises a clear MemoryError and leaves tape, program, parameters and optimizer as they
were; the same call then gives the right numbers.  Where a call can do without, it does.  The
allocations that fail are those of fastgrad's modules, then all large ones, whoever asks for them.
"""

import os
import platform
import re
import shutil
import subprocess

import pytest
from oracles import TESTS, run_snippet

ENTRIES = "no memory for N entries of N bytes on the tape"
OPERANDS = "no memory for N operands"
ROW = "no memory for a row of N slots"
NEURONS = "no memory for the slots of N neurons"
VALUES = "no memory for the slots of N Values"
TRACE = "no memory for a trace of N entries"
NUMBERS = "no memory for N numbers of entries"
NODES = "no memory for N nodes of a program"
WORDS = "no memory for N words of a program"
COLUMNS = "no memory for N columns"
RUN = "no memory for a run of a program: N bytes"
COPY = "no memory for a copy of the data of N entries"
OUTPUTS = "no memory for the outputs of N samples"
EXAMINE = "no memory to examine a program of N entries"
ARRAY = "Unable to allocate N.N KiB for an array with shape (N,) and data type floatN"
TABLE = "Unable to allocate N.N KiB for an array with shape (N, N) and data type floatN"
PYTHONS = ""  # its MemoryErrors have no text
DID_WITHOUT = None

OWN = {
    "Records": {ENTRIES},
    "RecordsAndCollects": {ENTRIES, DID_WITHOUT},
    "GivesMemoryBack": {ENTRIES, OPERANDS, DID_WITHOUT},
    "GrowsThePool": {ENTRIES, OPERANDS},
    "Links": {ENTRIES},
    "Functions": {OPERANDS},
    "SweepsInsideOfASweep": {DID_WITHOUT},  # for its rule tries again
    "CallsALayer": {ENTRIES, ROW, NEURONS},
    "TracesAndRuns": {TRACE, NUMBERS, NODES, WORDS, COLUMNS, RUN, OPERANDS, ROW, NEURONS, VALUES},
    "PlansGradients": {NODES, WORDS, COLUMNS, RUN, OUTPUTS, VALUES},
    "RunsOnLargerBatches": {COLUMNS, RUN, OUTPUTS, VALUES},
    "Derives": {NUMBERS, NODES, COLUMNS},
    "Recomputes": {ENTRIES, WORDS},
    "ExaminesPrograms": {COLUMNS, RUN, VALUES, EXAMINE},
    "DropsOut": {NUMBERS, NODES, WORDS, COLUMNS, RUN, ROW},
    "CollectsDuringARun": {COLUMNS, DID_WITHOUT},
    "ChangesDuringARun": {COLUMNS, COPY},
    "Minimizes": {COLUMNS, VALUES},
    "Steps": {VALUES},
    "Clips": {VALUES},
    "ClipsValues": {VALUES},
}
LARGE = {
    "MovesTables": {DID_WITHOUT},  # and does not collect
    "SweepsTwice": {PYTHONS},
    "LooksAtLargeGraphs": {PYTHONS},
    "RunsOnLargerBatches": {RUN, OUTPUTS, TABLE, ARRAY},
    "StepsFirst": {PYTHONS},
    "SavesAndLoads": {PYTHONS, ARRAY},
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """What is preloaded to make allocations fail: ``failing.c``, compiled."""
    compiler = shutil.which("cc")
    if platform.libc_ver()[0] != "glibc" or not compiler or "LD_PRELOAD" in os.environ:
        pytest.skip("needs a C compiler, glibc, and an allocator that nobody else has replaced")
    made = tmp_path_factory.mktemp("failing") / "failing.so"
    source = str(TESTS / "failing.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(made), source, "-ldl"], check=True)
    return str(made)


def walked(library, monkeypatch, name, **options):
    """What came of each allocation that failed, numbers as N."""
    monkeypatch.setenv("LD_PRELOAD", library)
    code = "import failing; answer(failing.walk(failing.SCENARIOS[name], **options))"
    found = run_snippet(code, name=name, options=options)
    return {text if text is None else re.sub(r"\d+", "N", text) for text in found}


@pytest.mark.parametrize("name", OWN)
def test_an_allocation_of_fastgrad_s_fails(library, monkeypatch, name):
    found = walked(library, monkeypatch, name)
    assert found >= OWN[name]
    assert found <= set().union(*OWN.values())


@pytest.mark.parametrize("name", LARGE)
def test_a_large_allocation_fails(library, monkeypatch, name):
    found = walked(library, monkeypatch, name, large=1 << 14)
    assert found >= LARGE[name]
    assert found <= set().union(*LARGE.values())


def test_the_system_grants_no_threads(library, monkeypatch):
    """Not even one: the caller does all the work, and the numbers are the same."""
    monkeypatch.setenv("LD_PRELOAD", library)
    assert run_snippet("import failing; answer(failing.without_threads())") == [True, 1, True]
