"""Resident memory of a graph that its root alone keeps alive, measured in a process of its own.

``python benchmarks/memory.py ENGINE OPERATIONS`` prints two numbers of bytes: by how much the
process has grown with the graph alive, and after its death.
"""

import gc
import os
import subprocess
import sys
from pathlib import Path

from workloads import FASTGRAD, MICROGRAD, record


def growth(engine, operations):
    """Run this file in a fresh process; returns its two numbers."""
    done = subprocess.run(
        [sys.executable, __file__, engine.name, str(operations)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [int(number) for number in done.stdout.split()]


def resident_bytes():
    gc.collect()
    if os.path.exists("/proc/self/statm"):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    listing = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, text=True, check=True
    )
    return int(listing.stdout) * 1024


def main(name, operations):
    number = {engine.name: engine.Value for engine in (MICROGRAD, FASTGRAD)}[name]
    record(number, 100)  # what is made once
    before = resident_bytes()
    root = record(number, int(operations))[0]
    print(resident_bytes() - before)
    del root
    print(resident_bytes() - before)


if __name__ == "__main__":
    main(*sys.argv[1:])
