"""A `fastgrad.fit` that is killed at random moments ends with the bits of one that is not.

python tests/test_fit_kills.py          20 kills; the suite makes do with a few
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import fastgrad

RUN = """
import json, random, sys
import numpy as np
import fastgrad
from fastgrad import nn, optim

random.seed(int(sys.argv[2]))
rng = np.random.default_rng(1)
X = rng.normal(size=(200, 8))
Y = (X[:, 0] > X[:, 1]).astype(int)
model = nn.Sequential(nn.Layer(8, 16), nn.Dropout(0.2), nn.Layer(16, 2, nonlin=False))
optimizer = optim.Adam(model.parameters(), lr=0.01)
schedule = optim.CosineAnnealingLR(optimizer, T_max=100)
print("ready", flush=True)
history = fastgrad.fit(
    model, X, Y, optimizer=optimizer, schedule=schedule, epochs=int(sys.argv[3]), validation=0.25,
    checkpoint=sys.argv[1], progress=False,
)
print(json.dumps([history, [p.data for p in model.parameters()], random.random()]))
"""


def start(path, seed, epochs):
    command = [sys.executable, "-c", RUN, *map(str, (path, seed, epochs))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process):
    out, _ = process.communicate()
    assert process.returncode == 0
    return json.loads(out)


def kill_and_go_on(folder, kills, epochs):
    """The epochs at which a run was killed; it ends as one that was not, or an assert fails."""
    begin = time.perf_counter()
    whole = finish(start(folder / "whole.npz", 0, epochs))
    pause = (time.perf_counter() - begin) / kills
    path, killed = folder / "killed.npz", []
    for seed in range(kills):
        # Only a checkpoint brings back the first parameters: those of another seed are others.
        process = start(path, seed if path.exists() else 0, epochs)
        time.sleep(random.uniform(0, pause))
        process.kill()
        process.communicate()
        if path.exists():
            killed.append(len(fastgrad.load(path)["history"].get("loss", ())))
    assert finish(start(path, kills if path.exists() else 0, epochs)) == whole
    return killed


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_and_gone_on(tmp_path):
    kill_and_go_on(tmp_path, kills=4, epochs=40)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        killed = kill_and_go_on(Path(folder), kills=20, epochs=1000)
    print(f"20 kills, {len(killed)} checkpoints read, after epochs {killed}: the same bits")
