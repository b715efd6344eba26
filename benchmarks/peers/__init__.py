"""Who takes part in the contests of compiled programs: fastgrad, and its peers, one file each.

A peer's module has a class for each kind of workload that it takes part in (``Training``,
``Irregular``, ``Microgpt``), made from the workload. An instance offers

- ``gradient()``: the value and the flat gradient at the start, leaving everything as it is;
- ``step()``: what is timed; returns the value before the step as a float.

Vectors are in the order of fastgrad's parameters. A peer's library is imported with its module,
which only `load` does, so that nobody needs them all.
"""

import importlib
import shutil
from collections import namedtuple
from importlib.util import find_spec

import numpy as np

Peer = namedtuple("Peer", "module libraries commands")

FASTGRAD = "fastgrad"
NUMPY, TORCH, JAX, MICROGRAD = "NumPy by hand", "PyTorch", "JAX", "micrograd"
VM, C = "CasADi's VM", "CasADi's C at -O3"
PURE = "pure Python"

PEERS = {
    FASTGRAD: Peer("fastgrad_program", [], []),
    NUMPY: Peer("numpy_hand", ["numpy"], []),
    TORCH: Peer("torch_eager", ["torch"], []),
    JAX: Peer("jax_jit", ["jax"], []),
    MICROGRAD: Peer("micrograd_eager", ["micrograd"], []),
    VM: Peer("casadi_vm", ["casadi"], []),
    C: Peer("casadi_c", ["casadi"], ["gcc"]),
    PURE: Peer("pure_python", [], []),
}


def missing(name):
    """List what a peer needs and this machine has not: libraries, commands."""
    peer = PEERS[name]
    return [
        *(library for library in peer.libraries if find_spec(library) is None),
        *(command for command in peer.commands if shutil.which(command) is None),
    ]


def load(name, workload):
    """Make a peer's contestant for a workload."""
    module = importlib.import_module(f"peers.{PEERS[name].module}")
    return getattr(module, workload.kind)(workload)


def check(name, workload, tolerance=1e-9):
    """Compare a fresh contestant with a fresh one of the workload's reference; returns it, warm.

    The gradient pins the reverse sweep, the value after two steps the update.
    """
    contestant = load(name, workload)
    reference = load(workload.reference, workload)
    for ours, theirs in zip(contestant.gradient(), reference.gradient()):
        np.testing.assert_allclose(ours, theirs, tolerance, tolerance * np.max(np.abs(theirs)))
    ours, theirs = ([each.step() for _ in range(3)] for each in (contestant, reference))
    np.testing.assert_allclose(ours, theirs, tolerance)
    return contestant
