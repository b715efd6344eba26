"""Every example runs as its docstring says and prints what it should."""

import gc
import random
import re
import runpy
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from oracles import LectureValue

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_moons(tmp_path):
    """The last line is what the script prints on the real micrograd."""
    done = subprocess.run(
        [sys.executable, "-m", "fastgrad", str(EXAMPLES / "moons.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines[1] == "number of parameters 337"
    assert lines[-1] == "step 19 loss 0.211013, accuracy 91%"
    assert len(lines) == 22


def start(script, folder, *options):
    command = [sys.executable, str(EXAMPLES / script), *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)


def run(script, folder, *options):
    """What an example prints."""
    return start(script, folder, *options).stdout


def test_moons_compiled(tmp_path):
    lines = run("moons_compiled.py", tmp_path).splitlines()
    eager, compiled = (re.search(r"loss (\S+), accuracy (\d+)%", line) for line in lines)
    assert eager[0] == compiled[0]
    assert int(eager[2]) >= 95


def test_xor(tmp_path):
    lines = run("xor.py", tmp_path).splitlines()
    assert lines[1:] == ["0 xor 0 = 0", "0 xor 1 = 1", "1 xor 0 = 1", "1 xor 1 = 0"]


def test_digits(tmp_path):
    """With a checkpoint that is complete the second run only loads it."""
    options = ("--checkpoint", "digits.npz")
    ends = [run("digits.py", tmp_path, *options).splitlines()[-1] for _ in range(2)]
    assert ends[0] == ends[1]
    assert float(re.match(r"test accuracy (\d+\.\d)%", ends[0])[1]) >= 97


def test_digits_dask(tmp_path):
    """On one worker as on two, and with the dashboard's address."""
    alone, two = (run("digits_dask.py", tmp_path, "--workers", n).splitlines() for n in "12")
    assert alone[-1] == two[-1]
    assert float(re.match(r"test accuracy (\d+\.\d)%, parameters \w{16}$", two[-1])[1]) >= 96
    assert re.match(r"dashboard http://\S+/status$", two[0])


def test_regression(tmp_path):
    out = run("regression.py", tmp_path)
    assert float(re.search(r"off the true curve by (\S+)", out)[1]) < 0.1
    assert (tmp_path / "regression.png").stat().st_size > 10_000


def test_curve_fit_scipy(tmp_path):
    rows = re.findall(r"(\S+) \(true: (\S+)\)", run("curve_fit_scipy.py", tmp_path))
    assert len(rows) == 4
    for fitted, true in rows:
        assert float(fitted) == pytest.approx(float(true), abs=0.05)


def test_custom_op(tmp_path):
    out = run("custom_op.py", tmp_path)
    gradient, difference = re.search(r"gradient (\S+), finite difference (\S+)", out).groups()
    assert gradient == difference
    distance, exactly = re.search(r"distance (\S+) m, exactly (\S+) m", out).groups()
    assert float(distance) == pytest.approx(float(exactly), abs=0.1)


# ---- microgpt

IMPORT = "from fastgrad.engine import Value\n"
ENGINES = {
    "fastgrad": IMPORT,
    "micrograd": "from micrograd.engine import Value\n",
    "lecture": "from oracles import LectureValue as Value\n",
    "microgpt": "from oracles import SlottedValue as Value\n",
}


def microgpt(engine):
    """The names that microgpt.py defines when its one import is that of `engine`."""
    source = (EXAMPLES / "microgpt.py").read_text(encoding="utf-8")
    assert source.count(IMPORT) == 1
    assert re.findall(r"(?m)^.*fastgrad.* import .*$|^import fastgrad.*$", source) == [IMPORT[:-1]]
    names = {"__name__": "microgpt"}
    exec(compile(source.replace(IMPORT, ENGINES[engine]), "microgpt.py", "exec"), names)
    return names


@pytest.fixture
def no_collector():
    """The collector would look at every node of the Python classes again and again."""
    gc.disable()
    yield
    gc.enable()
    gc.collect()


def train(engine, steps):
    """The losses of the first steps, and a name made up after them."""
    names = microgpt(engine)
    random.seed(1)
    model = names["new_model"]()
    losses = list(names["train"](model, steps))
    return losses, names["sample"](model, temperature=0.5)


@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine != "fastgrad"])
def test_microgpt_is_the_same_on_every_value(engine, no_collector):
    losses, name = train(engine, steps=3)
    ours, our_name = train("fastgrad", steps=3)
    assert losses == pytest.approx(ours, rel=1e-9, abs=0)
    assert len(losses) == 3
    assert name == our_name


@pytest.mark.parametrize("function", ["exp", "log", "relu"])
def test_microgpt_makes_by_hand_what_a_value_lacks(function):
    """micrograd's Value lacks exp and log, the lecture's own lacks relu and log."""

    class Bare(LectureValue):
        exp = relu = property()  # hasattr finds neither

    x, ours = Bare(0.3), microgpt("fastgrad")["Value"](0.3)
    assert not hasattr(x, function)
    out, our_out = microgpt("lecture")[function](x), microgpt("fastgrad")[function](ours)
    out.backward()
    our_out.backward()
    assert (out.data, x.grad) == pytest.approx((our_out.data, ours.grad), rel=1e-15)


def test_microgpt_adam_moves_by_the_rate():
    """Under a steady gradient, of whatever size, Adam moves by the rate."""
    names = microgpt("fastgrad")
    parameters = [names["Value"](1.0), names["Value"](1.0)]
    adam = names["Adam"](parameters)
    for _ in range(3):
        for p, gradient in zip(parameters, (0.5, -20.0)):
            p.grad += gradient
        adam.step(rate=0.1)
    assert [p.data for p in parameters] == pytest.approx([0.7, 1.3], rel=1e-6)
    assert [p.grad for p in parameters] == [0, 0]


def test_microgpt_learns():
    losses, _ = train("fastgrad", steps=30)
    assert statistics.fmean(losses[-5:]) < statistics.fmean(losses[:5]) - 0.3


def run_microgpt(*options, script="microgpt.py", folder=None):
    return start(script, folder, *options)


def test_microgpt_prints_the_same_each_time():
    done = run_microgpt("--steps", "25", "--samples", "4", "--seed", "7")
    assert run_microgpt("--steps", "25", "--samples", "4", "--seed", "7").stdout == done.stdout
    lines = done.stdout.splitlines()
    for line, step in zip(lines[:3], (10, 20, 25)):
        assert re.fullmatch(rf"step   {step} / 25  loss \d\.\d{{4}}", line), line
    assert len(lines) == 3 + 4
    assert all(re.fullmatch("[a-z]{0,16}", name) for name in lines[3:])
    assert re.fullmatch(r"ms a step: \d+\.\d\n", done.stderr)


def test_microgpt_compiled_prints_the_same(tmp_path):
    options = ("--steps", "25", "--samples", "4", "--seed", "7")
    done = run_microgpt(*options, script="microgpt_compiled.py", folder=tmp_path)
    assert done.stdout == run_microgpt(*options).stdout
    assert (tmp_path / "microgpt.png").stat().st_size > 10_000
    assert re.fullmatch(r"ms a step: \d+\.\d\n", done.stderr)


def test_microgpt_compiled_has_the_same_losses(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    names = runpy.run_path(str(EXAMPLES / "microgpt_compiled.py"))
    random.seed(1)
    losses = list(names["train"](microgpt("fastgrad")["new_model"](), steps=10))
    assert losses == pytest.approx(train("fastgrad", steps=10)[0], rel=1e-9, abs=0)
