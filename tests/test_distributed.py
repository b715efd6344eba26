"""`fastgrad.distributed` on real clusters of processes: the same bits, whoever lives or dies."""

import os
import random
import signal
import threading

import numpy as np
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
    with start(2) as cluster, Client(cluster) as client:
        yield client


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


def kill_a_worker_during(client, steps, seed):
    """What `train` calls before each step, and the pid of the worker that it kills in one."""
    rng = random.Random(seed)
    chosen, pid = rng.randrange(steps - 1), rng.choice(list(client.run(os.getpid).values()))
    timer = threading.Timer(rng.uniform(0, 0.02), os.kill, (pid, signal.SIGKILL))

    def before_step(step):
        if step == chosen:
            timer.start()
        elif step == chosen + 1:
            timer.join()  # not later than the end of the training

    return before_step, pid


def wait_for_another(client, workers, pid):
    """Let the nanny put a worker in the place of the one that was killed."""
    while pid in (pids := list(client.run(os.getpid).values())) or len(pids) < workers:
        client.wait_for_workers(workers, timeout=60)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_ten_killed_workers_do_not_change_a_bit(client):
    undisturbed = train(client)
    for seed in range(10):
        before_step, pid = kill_a_worker_during(client, 20, seed)
        assert train(client, before_step=before_step) == undisturbed
        wait_for_another(client, 2, pid)
