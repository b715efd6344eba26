"""fastgrad: micrograd's scalar autodiff on a flat tape in Cython.

- ``fastgrad.engine.Value`` and ``fastgrad.nn`` are micrograd's, and drop in for them; ``nn`` has
  more: activations and draws by name, norms, dropout, embeddings, states;
- ``functional`` has the functions of several values (softmax, losses, ...), each as one C call;
- ``optim`` has optimizers whose step is one C call, schedules of their rate, and clipping;
- ``save(obj, path)`` and ``load(path)`` keep models' and optimizers' states in a file;
- ``fit(model, X, Y)`` trains a model over minibatches, with checkpoints to go on from;
  ``distributed.DataParallel`` has gradients from the workers of a Dask cluster;
- ``compile(f)`` records a function on one sample and runs it on whole batches;
- ``grad``, ``jvp``, ``vjp``, ``jacobian``, ``hvp`` and ``hessian`` give derivatives of Values and
  of compiled programs as numbers, and touch no ``grad``;
- ``custom_op(forward, partials)`` makes an operation of functions of floats;
- ``checkpoint(fn, *xs)`` computes without recording, until ``backward()`` needs it;
- ``no_grad()`` computes without recording;
- ``detect_anomaly()`` finds the line that gives the first nan or inf;
- ``draw_dot(root)`` draws a graph, ``tape_table(root)`` lists it, ``backward_steps(root)`` runs
  its reverse sweep step by step, and ``plot`` has plots of models, trainings and gradients;
- ``install()`` makes ``import micrograd`` give fastgrad in this process, and so does
  ``%load_ext fastgrad`` in Jupyter;
- ``python -m fastgrad script.py`` runs a script that way, unchanged, also one that carries its
  own class like micrograd's.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fastgrad import functional
from fastgrad.contexts import detect_anomaly
from fastgrad.engine import Value, no_grad
from fastgrad.redirect import install
from fastgrad.trace import TraceError

if TYPE_CHECKING:
    from fastgrad import nn, optim, plot
    from fastgrad.checking import GradcheckError, check_program, gradcheck
    from fastgrad.custom import custom_op
    from fastgrad.derivatives import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
    from fastgrad.fitting import fit
    from fastgrad.graph import draw_dot
    from fastgrad.listing import backward_steps, tape_table
    from fastgrad.pool import get_num_threads, set_num_threads
    from fastgrad.program import Program, compile
    from fastgrad.recompute import checkpoint
    from fastgrad.saving import load, save

__all__ = [
    "GradcheckError",
    "Program",
    "TraceError",
    "Value",
    "backward_steps",
    "check_program",
    "checkpoint",
    "compile",
    "custom_op",
    "detect_anomaly",
    "draw_dot",
    "fit",
    "functional",
    "get_num_threads",
    "grad",
    "gradcheck",
    "hessian",
    "hvp",
    "install",
    "jacobian",
    "jvp",
    "load",
    "nn",
    "no_grad",
    "optim",
    "plot",
    "save",
    "set_num_threads",
    "tape_table",
    "value_and_grad",
    "vjp",
]
__version__ = "0.1.0"

# These need NumPy or are seldom used: a plain script shall not wait for their import.
_LATER = {
    "GradcheckError": "fastgrad.checking",
    "Program": "fastgrad.program",
    "backward_steps": "fastgrad.listing",
    "check_program": "fastgrad.checking",
    "checkpoint": "fastgrad.recompute",
    "compile": "fastgrad.program",
    "custom_op": "fastgrad.custom",
    "draw_dot": "fastgrad.graph",
    "fit": "fastgrad.fitting",
    "get_num_threads": "fastgrad.pool",
    "grad": "fastgrad.derivatives",
    "gradcheck": "fastgrad.checking",
    "hessian": "fastgrad.derivatives",
    "hvp": "fastgrad.derivatives",
    "jacobian": "fastgrad.derivatives",
    "jvp": "fastgrad.derivatives",
    "load": "fastgrad.saving",
    "save": "fastgrad.saving",
    "set_num_threads": "fastgrad.pool",
    "tape_table": "fastgrad.listing",
    "value_and_grad": "fastgrad.derivatives",
    "vjp": "fastgrad.derivatives",
}


def __getattr__(name: str) -> Any:
    if name in ("nn", "optim", "plot"):
        return importlib.import_module(f"fastgrad.{name}")
    if name not in _LATER:
        raise AttributeError(f"module 'fastgrad' has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__", "engine"])


def load_ipython_extension(ipython: Any) -> None:
    """Do what ``%load_ext fastgrad`` asks for: `install`."""
    install()
