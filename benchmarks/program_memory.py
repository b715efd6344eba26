"""Peak memory of training the large net by a compiled program, in a process of its own.

``python benchmarks/program_memory.py BATCH`` prints four numbers of bytes: by how much the process
has grown with the model alone, by how much it grew beyond that at the peak of tracing and three
steps, what a block of samples works in, and 8 for each parameter. Needs Linux's /proc.
"""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nets
from memory import resident_bytes

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak(batch):
    """Run this file in a fresh process; returns its four numbers."""
    done = subprocess.run(
        [sys.executable, __file__, str(batch)], stdout=subprocess.PIPE, text=True, check=True
    )
    return [int(number) for number in done.stdout.split()]


def main(batch):
    from peers.fastgrad_program import Training

    net = replace(nets.LARGE, batch=int(batch))
    before = resident_bytes()
    training = Training(net)
    model = resident_bytes()
    CLEAR.write_text("5")  # forget the peak so far, which ru_maxrss and VmHWM would else show
    losses = [training.step() for _ in range(3)]
    highest = 1024 * int(re.search(r"VmHWM:\s*(\d+)", STATUS.read_text())[1])
    assert losses[2] < losses[0]
    (signature,) = training.program.signatures
    print(model - before, highest - model, signature.workspace, 8 * len(training.parameters))


if __name__ == "__main__":
    main(*sys.argv[1:])
