"""fastgrad.save and fastgrad.load: what goes in comes out, or an error says why not.

Files that are damaged, foreign or made up are in test_saving_damage.py.
"""

import json
import math
import os
import random
import stat
import subprocess
import sys
import time

import numpy as np
import pytest

import fastgrad
from fastgrad import nn, optim


def texts(values):
    return [repr(value) for value in values]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.npz"


# ---- what goes in comes out


PLAIN = {
    "epoch": 3,
    "best": 0.1 + 0.2,
    "name": "fifth ☃\n\ud800",
    "none": None,
    "yes": True,
    "floats": [math.inf, -math.inf, -0.0, 5e-324],
    "pair": (1, [2.0, ("x", {})], ()),
    "big": 2**80,
    "nested": {"$array": "no array", 2: {"-1": -1}, True: []},
}


def test_plain_things(path):
    fastgrad.save(PLAIN, path)
    assert repr(fastgrad.load(path)) == repr(PLAIN)
    for thing in (None, [1, 2], (0.5,), "text", {}):
        fastgrad.save(thing, path)
        assert fastgrad.load(path) == thing
    fastgrad.save({"nan": math.nan, "f": np.float64(0.1), "i": np.int64(7), "b": np.bool_(1)}, path)
    assert repr(fastgrad.load(path)) == "{'nan': nan, 'f': 0.1, 'i': 7, 'b': True}"


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3),
        np.arange(6.0).reshape(2, 3).T,
        np.array(2.5),
        np.zeros((0, 3)),
        np.array([True, False]),
        np.arange(3, dtype=">f4"),
        np.array([math.nan, math.inf, -0.0]),
    ],
    ids=lambda thing: f"{thing!r:.30}",
)
def test_arrays(path, array):
    fastgrad.save(array, path)
    got = fastgrad.load(path)
    assert (got.dtype, got.shape, got.tobytes()) == (array.dtype, array.shape, array.tobytes())
    got[...] = 1  # an array of one's own


def test_arrays_whose_names_no_archive_takes(path):
    names = ["a/b", "../x", "ä", "", "a\0b", "$1", "x" * 5000, "fastgrad.json", "a"]
    things = {name: np.full(1, k) for k, name in enumerate(names)}
    things |= {"a.b": np.full(1, 100), 3: {"a": {"b": np.full(1, 200)}}}
    fastgrad.save(things, path)
    got = fastgrad.load(path)
    assert list(got) == list(things)
    assert [int(array[0]) for array in list(got.values())[:-1]] == [*range(len(names)), 100]
    assert got[3]["a"]["b"] == [200]
    assert os.listdir(path.parent) == [path.name]


def make(seed):
    random.seed(seed)
    model = nn.Sequential(
        nn.Embedding(5, 3), nn.LayerNorm(3), nn.MLP(3, [4, 2], activation="tanh"), nn.Neuron(2)
    )
    return model, optim.Adam(model.parameters(), lr=0.01)


def test_checkpoint(path):
    model, _ = make(1)
    kinds = texts(model.parameters())
    assert kinds[-1] == "Value(data=0, grad=0)"
    for p in model.parameters()[:20]:
        p.data = p.data * 1.5
    saved = texts(model.parameters())
    fastgrad.save({"model": model, "random": random.getstate(), "losses": [0.5, 0.25]}, path)
    draws = [random.random(), random.gauss(0, 1)]

    twin, _ = make(2)
    checkpoint = fastgrad.load(path)
    twin.load_state_dict(checkpoint["model"])
    random.setstate(checkpoint["random"])
    assert texts(twin.parameters()) == saved
    assert [random.random(), random.gauss(0, 1)] == draws
    assert checkpoint["losses"] == [0.5, 0.25]
    fastgrad.save(model, path)
    twin.load_state_dict(fastgrad.load(path))
    assert texts(twin.parameters()) == saved


def test_other_libraries_can_read_it(path):
    fastgrad.save({"model": nn.Layer(2, 3), "epoch": 3}, path)
    with np.load(path) as file:
        assert file.files == ["fastgrad.json", "model.weight", "model.bias"]
        assert file["model.weight"].shape == (3, 2)
        assert json.loads(file["fastgrad.json"])["epoch"] == 3


def test_same_content_same_bytes(path):
    fastgrad.save(PLAIN | {"x": np.arange(3)}, path)
    first = path.read_bytes()
    fastgrad.save(PLAIN | {"x": np.arange(3)}, path)
    assert path.read_bytes() == first


# ---- what cannot be saved


@pytest.mark.parametrize(
    ("thing", "error", "text"),
    [
        ({"a": [1, fastgrad.Value(2.0)]}, TypeError, r"cannot save Value Value.* at \['a'\]\[1\]"),
        (object, TypeError, "cannot save type <class 'object'>: expected modules, optimizers"),
        ({"x": {1j: 1}}, TypeError, r"a dict with the key 1j at \['x'\]: expected strings and"),
        (np.array([None]), TypeError, "cannot save ndarray"),
        (np.array(["text"]), TypeError, "cannot save ndarray"),
        (np.zeros(2, complex), TypeError, "cannot save ndarray"),
        ({"m": nn.Module()}, ValueError, r"nothing to save at \['m'\]: Module has an empty state"),
        (["x" * (1 << 20)], ValueError, r"takes 1048580 bytes as text, expected at most 1048576"),
        ([np.zeros(1)] * 20000, ValueError, "make long lists, or many small arrays, one NumPy"),
    ],
    ids=lambda thing: f"{thing!r:.30}",
)
def test_what_cannot_be_saved(path, thing, error, text):
    path.write_text("before")
    with pytest.raises(error, match=text):
        fastgrad.save(thing, path)
    assert path.read_text() == "before"
    assert os.listdir(path.parent) == [path.name]


def test_lists_without_an_end(path):
    endless = []
    endless.append(endless)
    with pytest.raises(ValueError, match="nested more than 64 deep"):
        fastgrad.save(endless, path)


# ---- atomically


def test_a_failure_leaves_the_old_file(path, monkeypatch):
    fastgrad.save([1], path)

    def fail(*rest):
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
            patch.setattr(os, name, fail)
            fastgrad.save([2], path)
        assert fastgrad.load(path) == [1]
        assert os.listdir(path.parent) == [path.name]


def test_order_of_what_reaches_the_disk(path, monkeypatch):
    steps = []

    def noted(name, say):
        original = getattr(os, name)

        def call(*args):
            steps.append(say(*args))
            return original(*args)

        monkeypatch.setattr(os, name, call)

    noted("fsync", lambda number: stat.S_ISDIR(os.fstat(number).st_mode))
    noted("replace", lambda old, new: (os.path.dirname(old), new))
    fastgrad.save([1], path)
    assert steps == [False, (str(path.parent), str(path)), True]


def test_links_and_permissions(path):
    target = path.parent / "target"
    target.touch()
    path.symlink_to(target)
    fastgrad.save([1], os.fsencode(path))
    assert path.is_symlink()
    assert fastgrad.load(str(target)) == [1]
    before = os.umask(0o026)
    try:
        fastgrad.save([1], path)
    finally:
        os.umask(before)
    assert oct(os.stat(target).st_mode & 0o777) == "0o640"


KILLED = """
import sys, numpy as np, fastgrad
print("ready", flush=True)
k = 0
while True:
    k += 1
    fastgrad.save({"k": k, "x": np.full(200_000, float(k))}, sys.argv[1])
"""


def test_killed_while_saving(path):
    """At any moment: the file is a whole one."""
    rng = random.Random(0)
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "ready\n"
            while not path.exists():
                pass
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
        state = fastgrad.load(path)
        assert (state["x"] == state["k"]).all()
