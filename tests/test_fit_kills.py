"""A `fastgrad.fit` that is killed at random moments ends with the bits of one that is not.

python tests/test_fit_kills.py          20 kills; the suite makes do with a few
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import fastgrad

EPOCHS = 150
RUN = f"""
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
schedule = optim.CosineAnnealingLR(optimizer, T_max={EPOCHS})
print("ready", flush=True)
history = fastgrad.fit(
    model, X, Y, optimizer=optimizer, schedule=schedule, epochs={EPOCHS}, validation=0.25,
    checkpoint=sys.argv[1], progress=False,
)
print(json.dumps([history, [p.data for p in model.parameters()], random.random()]))
"""


def start(path, seed):
    command = [sys.executable, "-c", RUN, str(path), str(seed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process):
    out, _ = process.communicate()
    assert process.returncode == 0
    return json.loads(out)


def kill_and_go_on(folder, kills):
    """The epochs at which the run was killed, and what it ended with."""
    path, epochs = folder / "killed.npz", []
    while len(epochs) < kills:
        # Only a checkpoint brings back the first parameters: those of a later seed are others.
        process = start(path, seed=0 if not path.exists() else 1 + len(epochs))
        time.sleep(random.uniform(0, 0.15))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        if path.exists():
            epochs.append(len(fastgrad.load(path)["history"].get("loss", ())))
    return epochs, finish(start(path, seed=-1))


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_and_gone_on(tmp_path, kills=4):
    whole = finish(start(tmp_path / "whole.npz", seed=0))
    epochs, end = kill_and_go_on(tmp_path, kills)
    assert end == whole
    assert 0 < epochs[-1] < EPOCHS
    return epochs


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        epochs = test_killed_and_gone_on(Path(folder), kills=20)
    print(f"{len(epochs)} kills, after epochs {epochs}: the same bits")
