"""Settings shared by every test: no deadlines, the same examples on every CI run, Ctrl-C heard.

And what every module must leave behind: the tape as it found it, and hardly any memory.
"""

import ctypes
import os
import signal
import sys

import pytest
from alive import entries_alive, handles_alive
from hypothesis import settings
from instruments import resident_bytes_now

settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

# A shell starts what it puts in the background deaf to Ctrl-C, and so would be the programs that
# the tests run.
signal.signal(signal.SIGINT, signal.default_int_handler)

KEPT = 128 << 20  # bytes that a module may leave resident, ...
IMPORTED = 128 << 20  # ... and so many more if something was imported that was not there before
C_LIBRARY = ctypes.CDLL(None) if os.name == "posix" else None


def resident_bytes_held():
    """Without what the C library keeps of memory that nothing holds any more."""
    if hasattr(C_LIBRARY, "malloc_trim"):  # glibc
        C_LIBRARY.malloc_trim(0)
    return resident_bytes_now()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item):
    """Do not hold what fixtures gave until the module has been looked at."""
    item.funcargs.clear()


@pytest.fixture(scope="module", autouse=True)
def _nothing_left(request):
    """What a module's tests made is gone after them; a failed test's frames hold what it had."""
    failed, imported = request.session.testsfailed, set(sys.modules)
    before = entries_alive(), handles_alive()
    resident = resident_bytes_held()
    yield
    if request.session.testsfailed > failed:
        return
    assert (entries_alive(), handles_alive()) == before, "the module left entries or Values"
    allowed = KEPT + IMPORTED * (not imported.issuperset(sys.modules))
    assert resident_bytes_held() - resident < allowed, "the module left memory"
