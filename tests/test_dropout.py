"""Dropout: drawn by `random`, eagerly number by number, in programs afresh at each run."""

import math
import pickle
import random

import numpy as np
import pytest

import fastgrad
from fastgrad import functional, nn
from fastgrad.engine import Value


def test_dropout():
    random.seed(0)
    draws = [random.random() < 0.25 for _ in range(1000)]
    random.seed(0)
    dropout = nn.Dropout(0.25)
    xs = [Value(3.0) for _ in range(1000)]
    out = dropout(xs)
    assert [v.data for v in out] == [0.0 if dropped else 4.0 for dropped in draws]
    functional.sum(out).backward()
    assert [v.grad for v in xs] == [0.0 if dropped else 1 / 0.75 for dropped in draws]
    assert dropout.eval()(xs) is xs
    assert nn.Dropout(0)(Value(2.0)).data == 2.0
    assert [v.data for v in nn.Dropout(1)([Value(2.0), Value(1.0)])] == [0.0, 0.0]
    for p in (-0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match="a probability from 0 to 1, got p="):
            nn.Dropout(p)


# ---- in programs


def dropped(p=0.5, threads=None):
    """A net with dropout and its program, which gives what dropout gives."""
    random.seed(4)
    dropout = nn.Dropout(p)
    layer = nn.Layer(2, 8, activation="sigmoid")
    model = nn.Sequential(layer, dropout)
    return model, fastgrad.compile(model, threads=threads)


ROWS = np.random.default_rng(0).normal(size=(500, 2))


def test_programs_draw_afresh_at_each_run_for_each_sample():
    model, program = dropped(0.25)
    kept = np.array([[v.data for v in model.layers[0](row)] for row in ROWS])
    runs = []
    for _ in range(2):
        out = program(ROWS)
        np.testing.assert_array_equal(out, np.where(out == 0, 0, kept * (1 / 0.75)))
        assert (out == 0).mean() == pytest.approx(0.25, abs=0.03)
        assert len({tuple(row) for row in out == 0}) > 100
        runs.append(out == 0)
    assert (runs[0] != runs[1]).mean() == pytest.approx(2 * 0.25 * 0.75, abs=0.05)


def test_programs_follow_the_mode_at_each_run():
    model, program = dropped()
    state = random.getstate()
    want = [[v.data for v in model.layers[0](row)] for row in ROWS]
    model.eval()
    assert program(ROWS).tolist() == want  # traced so
    assert random.getstate() == state
    model.train()
    assert (program(ROWS) == 0).any()
    model.eval()
    assert program(ROWS).tolist() == want
    assert len(program.signatures) == 1


def test_a_seed_repeats_a_training_on_any_number_of_threads():
    def train(threads):
        model, _ = dropped()
        net = nn.Sequential(model, nn.Dropout(0.1), nn.Layer(8, 1, nonlin=False))
        loss = fastgrad.compile(lambda x, y: (net(x) - y) ** 2, threads=threads)
        optimizer = fastgrad.optim.SGD(net.parameters(), lr=0.05)
        random.seed(9)
        for _ in range(20):
            optimizer.zero_grad()
            yield loss.backward(ROWS, ROWS[:, 0])
            optimizer.step()
        yield [p.data for p in net.parameters()]

    first = list(train(1))
    assert list(train(1)) == list(train(2)) == list(train(3)) == first
    assert len(set(first[:-1])) == 20


def test_gradients_go_through_what_is_kept():
    w, dropout = Value(2.0), nn.Dropout(0.5)
    program = fastgrad.compile(lambda x: dropout(w * x))
    out = []
    for _ in range(20):
        w.grad = 0
        mean = program.backward([3.0])
        assert w.grad == mean / 2
        out.append(mean)
    assert set(out) == {0.0, 12.0}


def test_dropout_in_programs_that_are_pickled_nested_or_examined():
    _, program = dropped()
    outer = fastgrad.compile(lambda x: program(x)[0])
    program(ROWS)
    for one in (outer, pickle.loads(pickle.dumps(program))):
        random.seed(1)
        out = one(ROWS)
        assert 0.4 < (out == 0).mean() < 0.6
        random.seed(1)
        assert (one(ROWS) == out).all()
        random.seed(1)
        with fastgrad.detect_anomaly():
            assert (one(ROWS) == out).all()


def test_an_anomaly_after_dropout_has_its_line():
    model, _ = dropped()
    program = fastgrad.compile(lambda x: functional.sum(model(x)).log() * 0)
    program(ROWS)
    with fastgrad.detect_anomaly(), pytest.raises(FloatingPointError, match=r"test_dropout\.py"):
        program([[-math.inf, 0.0]])
