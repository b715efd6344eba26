"""What is alive on the tape, for tests of what must leave nothing there."""

import gc

from fastgrad import tape


def entries_alive():
    """Entries that something reaches, cycles of handles (failed tests leave some) not counted."""
    gc.collect()
    tape.reclaim()
    return tape.usage()["entries"]


def handles_alive():
    """Values that are alive, likewise."""
    gc.collect()
    return tape.usage()["handles"]
