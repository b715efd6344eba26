"""Promises of second derivatives: against JAX and CasADi, and by the number of directions.

A peer that is not installed is left out.
"""

import importlib.util
import itertools
import random

import numpy as np

import fastgrad
from benchmarks.promises import medians
from benchmarks.promises.turns import alternate, timed
from fastgrad.nn import MLP

ROUNDS = 15
CALLS = 20  # a turn
VARIABLES = 200
AGREE = 1e-10  # relative to the largest entry


def promises():
    yield from rosenbrock()
    yield from network()
    yield from directions()


def rosenbrock():
    """Its Hessian at one point, 200 variables."""
    x = np.random.default_rng(0).normal(size=VARIABLES)
    program = fastgrad.compile(
        lambda x: sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in itertools.pairwise(x))
    )
    engines = {"fastgrad": lambda: fastgrad.hessian(program, x[None])[0]}
    if installed("jax"):
        import jax.numpy as jnp

        engines["JAX, jit"] = by_jax(
            lambda x: jnp.sum(100 * (x[1:] - x[:-1] * x[:-1]) ** 2 + (1 - x[:-1]) ** 2), x
        )
    if installed("casadi"):
        import casadi

        v = casadi.SX.sym("x", VARIABLES)
        a, b = v[:-1], v[1:]
        y = casadi.sum1(100 * (b - a * a) ** 2 + (1 - a) ** 2)
        engines["CasADi"] = by_casadi(v, y, x)
    yield from compared(f"Hessian of Rosenbrock's function of {VARIABLES}", engines, 1)


def network():
    """The Hessian of a loss by the parameters of a net 2-8-8-1, mean over 50 samples."""
    random.seed(1)
    rng = np.random.default_rng(1)
    model = MLP(2, [8, 8, 1], activation="tanh")
    X, Y = rng.normal(size=(50, 2)), rng.normal(size=50)
    program = fastgrad.compile(lambda x, y: (model(x) - y) ** 2, parameters=model.parameters())
    theta = np.array([p.data for p in model.parameters()])
    shapes = [(8, 3), (8, 9), (1, 9)]  # rows of weights, each with its bias behind
    engines = {"fastgrad": lambda: fastgrad.hessian(program, X, Y, wrt="parameters")}

    def loss(xp, theta):
        h, at = X.T, 0
        for k, (rows, columns) in enumerate(shapes):
            block = theta[at : at + rows * columns].reshape(rows, columns)
            at += rows * columns
            h = block[:, :-1] @ h + block[:, -1:]
            h = xp.tanh(h) if k < 2 else h
        return ((h[0] - Y) ** 2).mean()

    if installed("jax"):
        import jax.numpy as jnp

        engines["JAX, jit"] = by_jax(lambda theta: loss(jnp, theta), theta)
    if installed("casadi"):
        import casadi

        v = casadi.SX.sym("theta", theta.size)
        h, at = casadi.DM(X.T), 0
        for k, (rows, columns) in enumerate(shapes):
            block = casadi.reshape(v[at : at + rows * columns], columns, rows).T
            at += rows * columns
            h = casadi.mtimes(block[:, :-1], h) + casadi.repmat(block[:, -1], 1, len(X))
            h = casadi.tanh(h) if k < 2 else h
        y = casadi.sum2((h - casadi.DM(Y).T) ** 2) / len(X)
        engines["CasADi"] = by_casadi(v, y, theta)
    yield from compared(f"Hessian of the loss of a net of {theta.size}", engines, None)


def directions():
    """Seconds a direction: of many against of few."""
    x = np.random.default_rng(0).normal(size=(1, VARIABLES))
    program = fastgrad.compile(
        lambda x: sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in itertools.pairwise(x))
    )

    def turn(count):
        v = np.random.default_rng(count).normal(size=(1, count, VARIABLES))
        return timed(repeated, lambda: fastgrad.hvp(program, x, v=v))[0] / count

    few, many = 64, 1024
    seconds = alternate(ROUNDS, {"few": lambda: turn(few), "many": lambda: turn(many)})
    what = f"hvp, Rosenbrock's function: a direction, of {many} / of {few}"
    times = medians(*(seconds[name] / CALLS for name in ("many", "few")))
    yield what, seconds["many"] / seconds["few"], "at most", 1.5, times


def repeated(engine):
    for _ in range(CALLS):
        engine()


# ---- peers


def installed(name):
    return importlib.util.find_spec(name) is not None


def by_jax(function, x):
    import jax

    jax.config.update("jax_enable_x64", True)
    hessian = jax.jit(jax.hessian(function))
    return lambda: hessian(x).block_until_ready()


def by_casadi(v, y, x):
    import casadi

    function = casadi.Function("hessian", [v], [casadi.hessian(y, v)[0]])
    return lambda: function(x)


def compared(what, engines, bound):
    """Times in turns; the peers' matrices must agree."""
    ours = engines["fastgrad"]()
    for name, engine in engines.items():
        theirs = np.array(engine())
        off = abs(theirs - ours).max() / abs(ours).max()
        if not off <= AGREE:
            raise AssertionError(f"{what}: {name} differs by {off:.3g} of the largest entry")
        if name != "fastgrad":
            yield f"{what}: off {name}, of the largest entry", off, "at most", AGREE
    turns = {
        name: lambda engine=engine: timed(repeated, engine)[0] / CALLS
        for name, engine in engines.items()
    }
    seconds = alternate(ROUNDS, turns)
    for name in list(engines)[1:]:
        ratios = seconds["fastgrad"] / seconds[name]
        sign, limit = ("at most", bound) if bound and name.startswith("JAX") else ("free", None)
        yield (
            f"{what}: fastgrad / {name}",
            ratios,
            sign,
            limit,
            medians(seconds["fastgrad"], seconds[name]),
        )
