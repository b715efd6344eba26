"""Who takes part: fastgrad in its ways of use, and its peers, one file each in ``peers``.

A peer's module has a class for each kind of workload that it takes part in (``Training``,
``Irregular``, ``Microgpt``), made from the workload; or it has one `engine`, a kind of number, from
which ``peers/scalars.py`` makes them. An instance offers

- ``gradient()``: the value and the flat gradient at the start, leaving everything as it is;
- ``step()``: what is timed; returns the value before the step as a float;
- ``prepare()``, where there is one: what comes before each step and is not timed.

Vectors are in the order of micrograd's parameters. A peer's library is imported with its module,
which only `load` does, so that nobody needs them all.
"""

import importlib
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import numpy as np


@dataclass(frozen=True)
class Engine:
    module: str  # in peers
    package: str = ""  # on PyPI
    imports: str = ""  # the package's name in Python, if another
    command: str = ""  # that it needs
    collected: bool = False  # its graphs are Python objects: shown with gc on and off
    wins: str = ""  # why it is faster where it is

    @property
    def library(self):
        return self.imports or self.package


WRITTEN, FUSED = "fastgrad, as written", "fastgrad, fused"
COMPILED = "fastgrad, compiled"
MICROGRAD, SLOTTED = "micrograd", "microgpt's Value"
MINIGRAD, OXIGRAD, MICROGRAD_RUST = "minigrad", "oxigrad", "micrograd-rust"
AUTONEURONET, XAD = "AutoNeuroNet", "XAD"
TORCH_NUMBERS, AUTOGRAD_NUMBERS = "PyTorch, 0-d tensors", "autograd, number by number"
FLOAT, COMPLEX = "Python's float", "Python's complex"
NUMPY, TORCH, JAX, AUTOGRAD = "NumPy by hand", "PyTorch", "JAX, jit", "autograd"
VM, C = "CasADi's VM", "CasADi's C"
LIMIT = "C by hand"

BARE = "keeps no graph: it is the floor for an operator that makes a Python object"
BLAS = (
    "multiplies matrices by fused multiply-adds, and sums in the order that suits the processor; "
    "fastgrad rounds each product and sums from the left, as micrograd does"
)
ENGINES = {
    WRITTEN: Engine("fastgrad_eager"),
    FUSED: Engine("fastgrad_fused"),
    COMPILED: Engine("fastgrad_compiled"),
    MICROGRAD: Engine("micrograd_eager", "micrograd", collected=True),
    SLOTTED: Engine("slotted", collected=True),
    MINIGRAD: Engine("minigrad_eager", "minigrad", wins="is C too, and keeps less of a graph"),
    OXIGRAD: Engine("oxigrad_eager", "oxigrad"),
    MICROGRAD_RUST: Engine("micrograd_rust_eager", "micrograd-rust", "micrograd_rust"),
    AUTONEURONET: Engine("autoneuronet_eager", "autoneuronet"),
    XAD: Engine(
        "xad_eager",
        "xad",
        wins="stores what its sweep multiplies by, and no operation: a shorter loop, but nothing "
        "to draw, to compile or to differentiate again",
    ),
    TORCH_NUMBERS: Engine("torch_numbers", "torch"),
    AUTOGRAD_NUMBERS: Engine("autograd_numbers", "autograd"),
    FLOAT: Engine("python_numbers", wins=BARE),
    COMPLEX: Engine("python_numbers", wins=BARE),
    NUMPY: Engine("numpy_hand", "numpy", wins=BLAS),
    TORCH: Engine("torch_tensors", "torch", wins=BLAS),
    JAX: Engine("jax_jit", "jax", wins=BLAS),
    AUTOGRAD: Engine("autograd_arrays", "autograd", wins=BLAS),
    VM: Engine("casadi_vm", "casadi"),
    C: Engine("casadi_c", "casadi", command="gcc", wins="is machine code for this one function"),
    LIMIT: Engine(
        "c_hand",
        command="gcc",
        wins="is built for one net on one processor, reorders sums and fuses multiply-adds: the "
        "limit, not a library",
    ),
}


def missing(name):
    """What an engine needs and this machine has not, in words; empty if it can run."""
    engine = ENGINES[name]
    if engine.library and find_spec(engine.library) is None:
        return f"{engine.package} is not installed"
    if engine.command and shutil.which(engine.command) is None:
        return f"there is no {engine.command}"
    return ""


def versions():
    """Of the packages that are installed."""
    found = {}
    for package in sorted({engine.package for engine in ENGINES.values()} - {""}):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def load(name, workload):
    """Make an engine's contestant for a workload."""
    module = importlib.import_module(f"benchmarks.peers.{ENGINES[name].module}")
    if hasattr(module, workload.kind):
        return getattr(module, workload.kind)(workload)
    engine = module.engines[name] if hasattr(module, "engines") else module.engine
    from benchmarks.peers import scalars

    return getattr(scalars, workload.kind)(workload, engine)


def outcome(contestant, steps):
    """The value and the gradient at the start, and the values of some steps."""
    value, gradient = contestant.gradient()
    values = []
    for _ in range(steps):
        getattr(contestant, "prepare", int)()
        values.append(contestant.step())
    return [np.asarray(numbers, float) for numbers in (value, gradient, values)]


def expected(workload):
    """What every engine must find, by the workload's reference."""
    return outcome(load(workload.reference, workload), workload.steps)


def check(name, workload, expectation, tolerance=1e-9):
    """Make a contestant and compare it with what is expected; returns it, warm.

    The gradient pins the reverse sweep, the values of its steps the update.

    Raises
    ------
    AssertionError
        Names what is wrong, and by how much.
    """
    contestant = load(name, workload)
    whats = "value", "gradient", "value of a step"
    for what, ours, theirs in zip(whats, outcome(contestant, workload.steps), expectation):
        scale = np.max(np.abs(theirs), initial=0)
        # Written so that a nan fails.
        if ours.shape != theirs.shape or not np.all(np.abs(ours - theirs) <= tolerance * scale):
            worst = np.max(np.abs(ours - theirs)) if ours.shape == theirs.shape else np.nan
            raise AssertionError(f"wrong {what}: off by {worst:.2g} where {scale:.2g} is largest")
    return contestant
