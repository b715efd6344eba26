"""``python -m fastgrad demo`` does what micrograd's notebook does, with either engine."""

import random
import re
import subprocess
import sys

import numpy as np
import pytest
from micrograd import engine as real_engine
from micrograd import nn as real_nn

from fastgrad import demo, engine, nn


def run(folder, *args, absent=()):
    """Run the demo in `folder` as if the packages `absent` were not installed."""
    code = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({absent!r}))
sys.argv[1:] = {["demo", *args]!r}
runpy.run_module("fastgrad", run_name="__main__", alter_sys=True)
"""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )


def test_reaches_100_percent_and_draws(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    number = r"\d+\.\d+"
    summary = rf"fastgrad: accuracy 100%, loss {number}, {number} ms a step \(median of 100\)"
    assert re.fullmatch(summary + "\nwrote moons.png\n", done.stdout)
    picture = (tmp_path / "moons.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert int.from_bytes(picture[16:20]) == 1320


def test_without_tqdm_and_matplotlib(tmp_path):
    done = run(tmp_path, "--steps", "25", absent=["tqdm", "matplotlib"])
    assert (done.returncode, done.stderr) == (0, "")
    *lines, summary, picture = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["step 10", "step 20", "step 25"]
    assert all(re.search(r": loss \d.+, accuracy \d+%, \d.+ ms a step$", line) for line in lines)
    assert summary.startswith("fastgrad: accuracy ")
    assert picture == 'no picture, as matplotlib is not installed: pip install "fastgrad[demo]"'
    assert not list(tmp_path.iterdir())


def test_tqdm_shows_the_last_step(tmp_path):
    done = run(tmp_path, "--steps", "3", absent=["matplotlib"])
    assert re.search(r"3/3 .*loss \d.+, accuracy \d+%, .* ms a step\]", done.stderr)


def test_real_micrograd(tmp_path):
    done = run(tmp_path, "--engine", "micrograd", "--steps", "1", absent=["matplotlib"])
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^micrograd: accuracy 50%, loss 0.8958, .*\(median of 1\)$", done.stdout, re.MULTILINE
    )


def test_moons_are_those_of_scikit_learn():
    # np.random.seed(1337); make_moons(n_samples=100, noise=0.1)
    X, y = demo.make_moons(100, noise=0.1, seed=1337)
    assert X.shape == (100, 2)
    assert X[0] == pytest.approx([1.12211461, 0.08147717], abs=5e-9)
    assert y[:10].tolist() == [0, 0, 1, 0, 1, 1, 1, 1, 1, 0]
    assert y.sum() == 50


def test_losses_are_the_notebooks():
    random.seed(demo.SEED)
    X, y = demo.make_moons(100, noise=0.1, seed=demo.SEED)
    steps = demo.train(nn.MLP(2, [16, 16, 1]), engine.Value, X, y * 2 - 1, steps=100)
    losses, accuracies, _ = zip(*[next(steps) for _ in range(4)])
    notebook = [0.8958441028683222, 1.7235905336972022, 0.7429006313851131, 0.7705641260584201]
    assert losses == pytest.approx(notebook, rel=1e-9)
    assert accuracies == (0.50, 0.81, 0.77, 0.82)


def test_both_engines_take_the_same_steps():
    X, y = demo.make_moons(12, noise=0.1, seed=3)
    histories = []
    for its_engine, its_nn in (engine, nn), (real_engine, real_nn):
        random.seed(3)
        model = its_nn.MLP(2, [8, 1])
        history = demo.train(model, its_engine.Value, X, y * 2 - 1, steps=5)
        histories.append([(loss, accuracy) for loss, accuracy, _ in history])
    assert histories[0][0] == histories[1][0]
    np.testing.assert_allclose(*histories, rtol=1e-9)


@pytest.mark.parametrize(
    ("args", "absent", "message"),
    [
        (["--steps", "0"], [], "argument --steps: got '0', expected a whole number from 1 up"),
        (["--steps", "many"], [], "argument --steps: got 'many', expected a whole number"),
        (["--out", "no/such/moons.png"], [], "a .png file in a directory that exists"),
        (["--out", "moons.gif"], [], "argument --out: got 'moons.gif', expected the name of"),
        (["--engine", "torch"], [], "argument --engine: invalid choice: 'torch'"),
        (["--engine", "micrograd"], ["micrograd"], "not installed: pip install micrograd==0.1.0"),
    ],
)
def test_bad_options(tmp_path, args, absent, message):
    done = run(tmp_path, *args, absent=absent)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
