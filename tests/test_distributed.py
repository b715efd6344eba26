"""`fastgrad.distributed` on real clusters of processes: the same bits, whoever lives or dies."""

import contextlib
import gc
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time

import dask
import dask.array
import numpy as np
import psutil
import pytest
from distributed import Client, LocalCluster

import fastgrad
from fastgrad import Value, functional, nn, optim, shards
from fastgrad.distributed import DataParallel

RNG = np.random.default_rng(5)
X = RNG.normal(size=(200, 6))
LABELS = (X[:, 0] * X[:, 1] > 0).astype(int) + (X[:, 2] > 1)
SHARDS = 4


def start(workers):
    return LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0")


@pytest.fixture(scope="module")
def client():
    settings = {
        # A LocalCluster gives a worker up that is lost again within this time: ours are often.
        "distributed.deploy.lost-worker-timeout": "1 hour",
        "distributed.comm.timeouts.connect": "10 s",  # to one that has been killed
    }
    # Dask's watcher ends by a KeyError, which closing a cluster raises at its end, if a worker
    # is killed before the cluster has heard of it.
    with (
        dask.config.set(settings),
        contextlib.suppress(KeyError),
        start(2) as cluster,
        Client(cluster) as client,
    ):
        yield client


def wait_until(come):
    for _ in range(600):
        if come():
            return
        time.sleep(0.1)
    raise AssertionError("waited a minute for what should come in a second")


def new_model(*, dropout=False):
    random.seed(7)
    if dropout:
        layers = nn.Layer(6, 16), nn.Dropout(0.3), nn.Layer(16, 3, nonlin=False)
        return nn.Sequential(*layers)
    return nn.MLP(6, [16, 3])


def loss_of(model):
    return fastgrad.compile(lambda x, y: functional.cross_entropy(model(x), y))


def numbers(model):
    return [p.data for p in model.parameters()]


def train(client, steps=20, before_step=lambda step: None):
    """Losses and the last parameters of a training by the shards."""
    model = new_model()
    adam = optim.Adam(model.parameters(), lr=0.02)
    losses = []
    with DataParallel(loss_of(model), client).shard(X, LABELS, shards=SHARDS) as parallel:
        for step in range(steps):
            before_step(step)
            losses.append(adam.minimize(parallel))
    return losses, numbers(model)


def train_here(steps=20):
    """The same without a cluster."""
    model = new_model()
    adam = optim.Adam(model.parameters(), lr=0.02)
    program, losses = loss_of(model), []
    for _ in range(steps):
        loss, gradient = shards.value_and_grad(program, X, LABELS, shards=SHARDS)
        losses.append(loss)
        for p, g in zip(program.parameters, gradient):
            p.grad = float(g)
        adam.step()
    return losses, numbers(model)


# ---- the same bits


def test_one_worker_two_workers_and_none_give_the_same_bits(client):
    here = train_here()
    assert here[0][-1] < here[0][0]
    assert train(client) == here
    with start(1) as cluster, Client(cluster) as alone:
        assert train(alone) == here


# ---- workers that die


def pids_of(client):
    return list(client.run(os.getpid, on_error="ignore").values())


def kill_a_worker_during(client, steps, seed):
    """What `train` calls before each step, and the pid of the worker that it kills in one."""
    rng = random.Random(seed)
    chosen, pid = rng.randrange(steps - 1), rng.choice(pids_of(client))
    timer = threading.Timer(rng.uniform(0, 0.02), os.kill, (pid, signal.SIGKILL))

    def before_step(step):
        if step == chosen:
            timer.start()
        elif step == chosen + 1:
            timer.join()  # not later than the end of the training

    return before_step, pid


def wait_for_another(client, workers, pid):
    """Let the nanny put a worker in the place of the one that was killed."""
    wait_until(lambda: pid not in pids_of(client) and len(pids_of(client)) == workers)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_ten_killed_workers_do_not_change_a_bit(client):
    undisturbed = train(client)
    for seed in range(10):
        before_step, pid = kill_a_worker_during(client, 20, seed)
        assert train(client, before_step=before_step) == undisturbed
        wait_for_another(client, 2, pid)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_no_worker_is_left_and_the_training_waits_for_others(client):
    pids = pids_of(client)

    def kill_all(step):
        if step == 5:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)

    assert train(client, before_step=kill_all) == train_here()
    wait_for_another(client, 2, pids[0])


def programs_there(client, parallel):
    """Whether each worker has its program."""
    name = parallel._name
    return list(client.run(lambda dask_worker: name in dask_worker.plugins).values())


def test_a_worker_that_comes_later_gets_the_program(client):
    with DataParallel(loss_of(new_model()), client).shard(X, LABELS, shards=SHARDS) as parallel:
        before = parallel.value_and_grad()
        client.cluster.scale(3)
        client.wait_for_workers(3, timeout=60)
        assert programs_there(client, parallel) == [True] * 3
        client.cluster.scale(2)
        same(parallel.value_and_grad(), before)
    wait_until(lambda: len(pids_of(client)) == 2)


def test_what_a_worker_raises_is_raised(client):
    w = Value(2.0)
    take = fastgrad.compile(lambda x, i: w * functional.take([x, x * x], i))
    places = np.zeros(200)
    places[170] = 7
    with (
        DataParallel(take, client).shard(X[:, 0], places, shards=SHARDS) as parallel,
        pytest.raises(IndexError, match=r"sample 20: i, 7.0 at place 0, is no index") as caught,
    ):
        optim.SGD([w]).minimize(parallel)
    assert caught.value.__notes__ == ["in shard 3, which has samples 150 to 199"]
    assert w.data == 2.0

    log = fastgrad.compile(lambda x: (w * x).log(), check_finite=True)
    positive = np.ones(200)
    positive[60] = 0.0
    with DataParallel(log, client).shard(positive, shards=SHARDS) as parallel:
        with pytest.raises(FloatingPointError, match="in sample 10, log gave -inf") as caught:
            parallel.value_and_grad()
        assert caught.value.__notes__ == ["in shard 1, which has samples 50 to 99"]
        assert parallel.value_and_grad(rows=[0, 59, 61])[0] == math.log(2.0)


def test_detect_anomaly_holds_on_the_workers(client):
    w = Value(1.0)
    log = fastgrad.compile(lambda x: (w * x).log())
    with DataParallel(log, client).shard([1.0, 0.0], shards=2) as parallel:
        assert parallel.value_and_grad()[0] == -math.inf
        with fastgrad.detect_anomaly(), pytest.raises(FloatingPointError, match="log gave -inf"):
            parallel.value_and_grad()


# ---- samples, rows and parameters


def same(one, other):
    assert one[0] == other[0]
    assert one[1].tolist() == other[1].tolist()


def test_rows_and_theta(client):
    program = loss_of(new_model())
    order = np.random.default_rng(1).permutation(200)
    theta = np.random.default_rng(2).normal(size=len(program.parameters) or 163)
    with DataParallel(program, client).shard(X, LABELS, shards=7) as parallel:
        assert (len(parallel), parallel.shards) == (200, 7)
        for rows in None, order[:64], [3], [199, 0, 0]:
            here = shards.value_and_grad(program, X, LABELS, shards=7, rows=rows, theta=theta)
            same(parallel.value_and_grad(rows, theta=theta), here)
            own = slice(None) if rows is None else rows
            plain = program.value_and_grad(X[own], LABELS[own], theta=theta)
            assert here[0] == pytest.approx(plain[0], rel=1e-13)
            assert here[1] == pytest.approx(plain[1], rel=1e-12, abs=1e-15)


def test_one_shard_is_the_program_itself():
    program = loss_of(new_model())
    same(shards.value_and_grad(program, X, LABELS, shards=1), program.value_and_grad(X, LABELS))


def test_dask_arrays_stay_where_they_are(client, monkeypatch):
    program = loss_of(new_model())
    x = dask.array.from_array(X, chunks=(50, 4))
    y = dask.array.from_array(LABELS, chunks=80)
    here = shards.value_and_grad(program, X, LABELS, shards=4)
    monkeypatch.setattr(dask.array.Array, "__array__", None)  # nobody asks for all of it
    with DataParallel(program, client) as parallel:
        same(parallel.shard(x, y).value_and_grad(), here)
        assert parallel.shards == 4
        same(parallel.shard(x, LABELS).value_and_grad(), here)
        same(parallel.shard(X, y).value_and_grad(rows=range(200)), parallel.value_and_grad())
        assert parallel.shards == 3  # the chunks of the first Dask array
        three = shards.value_and_grad(program, X, LABELS, shards=3)
        same(parallel.shard(x, y, shards=3).value_and_grad(), three)


def test_backward_adds_to_grads(client):
    model = new_model()
    program = loss_of(model)
    with DataParallel(program, client).shard(X, LABELS, shards=SHARDS) as parallel:
        mean, gradient = parallel.value_and_grad()
        assert [p.grad for p in program.parameters] == [0] * len(gradient)
        assert [parallel.backward(), parallel.backward()] == [mean, mean]
    assert [p.grad for p in program.parameters] == (gradient + gradient).tolist()


def test_an_optimizer_of_some_parameters_and_of_others(client):
    v, w, other = Value(1.0), Value(2.0), Value(3.0)
    program = fastgrad.compile(lambda x: v * x + w)
    with DataParallel(program, client).shard([1.0, 2.0, 6.0], shards=2) as parallel:
        optim.SGD([other, w], lr=0.5).minimize(parallel)
        assert (v.data, w.data, other.data) == (1.0, 1.5, 3.0)
        with pytest.raises(ValueError, match="uses none of the optimizer's 1 parameters"):
            optim.SGD([other]).minimize(parallel)


def test_dropout_draws_the_same_on_workers(client):
    program = loss_of(new_model(dropout=True))
    here = [shards.value_and_grad(program, X, LABELS, shards=SHARDS, seed=s) for s in (3, 4)]
    assert here[0][0] != here[1][0]
    random.seed(1)
    state = random.getstate()
    same(shards.value_and_grad(program, X, LABELS, shards=SHARDS, seed=3), here[0])
    assert random.getstate() == state
    drawn = [shards.value_and_grad(program, X, LABELS, shards=SHARDS)[0] for _ in range(2)]
    assert drawn[0] != drawn[1]
    program = loss_of(new_model(dropout=True))
    with DataParallel(program, client).shard(X, LABELS, shards=SHARDS) as parallel:
        there = [parallel.value_and_grad(seed=s) for s in (3, 4)]
    for one, other in zip(here, there):
        same(one, other)


# ---- what stays


def test_nothing_stays_on_the_cluster(client):
    scheduler = client.cluster.scheduler
    parallel = DataParallel(loss_of(new_model()), client).shard(X, LABELS, shards=SHARDS)
    parallel.value_and_grad()
    assert programs_there(client, parallel) == [True, True]
    parallel.close()
    assert programs_there(client, parallel) == [False, False]
    with pytest.raises(ValueError, match="there are no samples: call shard"):
        parallel.value_and_grad()
    parallel.close()
    dropped = DataParallel(loss_of(new_model()), client).shard(X, LABELS, shards=SHARDS)
    name = dropped._name
    assert name in scheduler.worker_plugins
    del dropped
    gc.collect()
    wait_until(lambda: not scheduler.tasks and name not in scheduler.worker_plugins)


def test_memory_does_not_grow_over_500_steps(client):
    """The scheduler is in this process. What keeps the vector of a step would take 60 MB."""
    random.seed(7)
    model = nn.MLP(6, [64, 256, 3])
    sgd = optim.SGD(model.parameters(), lr=1e-4)
    assert len(numbers(model)) * 8 * 400 > 50e6
    scheduler, process = client.cluster.scheduler, psutil.Process()
    with DataParallel(loss_of(model), client).shard(X, LABELS, shards=SHARDS) as parallel:
        held = []
        for steps in 100, 400:
            for _ in range(steps):
                sgd.minimize(parallel)
            gc.collect()
            wait_until(lambda: len(scheduler.tasks) <= SHARDS)  # the last step's are going
            held.append((process.memory_info().rss, len(scheduler.tasks), len(client.futures)))
    (before, *counts), (after, *counts_after) = held
    assert counts == counts_after == [SHARDS, SHARDS]
    assert after - before < 20e6


# ---- fit


def fit(model, **options):
    adam = optim.Adam(model.parameters(), lr=0.02)
    return fastgrad.fit(
        model, X, LABELS, optimizer=adam, batch_size=64, progress=False, **options
    ), numbers(model)


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_fit_takes_the_same_batches(client, clip_norm):
    options = {"epochs": 3, "validation": 0.2, "clip_norm": clip_norm}
    plain, parameters = fit(new_model(), **options)
    history, others = fit(new_model(), client=client, shards=SHARDS, **options)
    assert history.keys() == plain.keys()
    for name in plain:
        assert history[name] == pytest.approx(plain[name], rel=1e-9)
    assert others == pytest.approx(parameters, rel=1e-9)
    assert others != parameters


def test_fit_goes_on_from_its_checkpoint_on_another_cluster(client, tmp_path):
    def run(epochs, client, path, **options):
        random.seed(11)
        return fit(
            new_model(dropout=True), epochs=epochs, client=client, checkpoint=path, **options
        )

    whole = run(5, client, tmp_path / "whole.npz", shards=SHARDS)
    run(2, client, tmp_path / "parts.npz", shards=SHARDS)
    with Client(n_workers=1, processes=False, dashboard_address=":0") as other:
        assert run(5, other, tmp_path / "parts.npz", shards=SHARDS) == whole
        with pytest.raises(ValueError, match="shards: got 4, expected 3"):
            run(5, other, tmp_path / "parts.npz", shards=3)
    with pytest.raises(ValueError, match="unexpected: shards"):
        run(5, None, tmp_path / "parts.npz")


def test_fit_shows_the_dashboard(client, capsys):
    fastgrad.fit(new_model(), X, LABELS, epochs=1, client=client)
    assert f"{client.dashboard_link}: 100%" in capsys.readouterr().err


# ---- bad input


def test_bad_input(client):
    program = loss_of(new_model())
    with pytest.raises(TypeError, match="needs a compiled program, got MLP"):
        DataParallel(new_model(), client)
    with pytest.raises(TypeError, match=r"client must be a distributed.Client .* got str 'tcp"):
        DataParallel(program, "tcp://127.0.0.1:8786")
    with pytest.raises(TypeError, match="shards=4 needs client="):
        fastgrad.fit(new_model(), X, LABELS, shards=4, progress=False)
    with DataParallel(program, client) as parallel:
        chunked = dask.array.from_array(X, chunks=50)
        for error, message, arrays, options in [
            (ValueError, "{'x': 200, 'y': 199}", (X, LABELS[1:]), {}),
            (ValueError, "one at least, got {'x': 0, 'y': 0}", (X[:0], LABELS[:0]), {}),
            (ValueError, "y must be an array of samples, got the number", (X, 1), {}),
            (TypeError, "missing argument y", (X,), {}),
            (TypeError, "x must be an array of numbers, got <U1", (["a"], [1]), {}),
            (TypeError, "x must be an array of numbers, got bool|complex", (chunked * 1j, X), {}),
            (ValueError, "call its compute_chunk_sizes", (chunked[chunked[:, 0] > 0], X), {}),
            (ValueError, "at most 200, a sample each, got 201", (X, LABELS), {"shards": 201}),
            (ValueError, "shards must be", (X, LABELS), {"shards": 0}),
        ]:
            with pytest.raises(error, match=message):
                parallel.shard(*arrays, **options)
        assert (len(parallel), parallel.shards) == (0, 0)
        parallel.shard(X, LABELS)
        assert parallel.shards == 2  # as many as there are threads
        for error, message, rows in [
            (ValueError, "from 0 to 199, got -1 to 3", [3, -1]),
            (ValueError, "from 0 to 199, got 200 to 200", [200]),
            (TypeError, "rows must be a row of ints, one at least, got float64", [0.5]),
            (TypeError, "one at least, got .* of shape \\(0,\\)", np.array([], dtype=int)),
        ]:
            with pytest.raises(error, match=message):
                parallel.value_and_grad(rows)
        with pytest.raises(ValueError, match="theta must have the shape"):
            parallel.value_and_grad(theta=[1.0])
        assert f"200 samples in 2 shards, dashboard {client.dashboard_link}" in repr(parallel)


def test_without_dask():
    code = """if True:
        import sys
        sys.modules["distributed"] = None
        import fastgrad, fastgrad.shards
        try:
            fastgrad.fit(fastgrad.nn.MLP(2, [1]), [[1, 2]], [1.0], client=1, progress=False)
        except ImportError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == 'fastgrad.distributed needs Dask: pip install "fastgrad[dask]"\n'
