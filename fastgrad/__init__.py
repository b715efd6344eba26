"""fastgrad: micrograd's scalar autodiff on a flat tape in Cython.

- ``fastgrad.engine.Value`` and ``fastgrad.nn`` are micrograd's, and drop in for them; ``nn`` has
  more: activations and draws by name, norms, dropout, embeddings, states;
- ``functional`` has the functions of several values (softmax, losses, ...), each as one C call;
- ``optim`` has optimizers whose step is one C call, schedules of their rate, and clipping;
- ``save(obj, path)`` and ``load(path)`` keep models' and optimizers' states in a file;
- ``fit(model, X, Y)`` trains a model over minibatches, with checkpoints to go on from;
  ``distributed.DataParallel`` has gradients from the workers of a Dask cluster;
- ``compile(f)`` records a function on one sample and runs it on whole batches;
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
    from fastgrad.fitting import fit
    from fastgrad.graph import draw_dot
    from fastgrad.listing import backward_steps, tape_table
    from fastgrad.program import Program, compile, get_num_threads, set_num_threads
    from fastgrad.saving import load, save

__all__ = [
    "Program",
    "TraceError",
    "Value",
    "backward_steps",
    "compile",
    "detect_anomaly",
    "draw_dot",
    "fit",
    "functional",
    "get_num_threads",
    "install",
    "load",
    "nn",
    "no_grad",
    "optim",
    "plot",
    "save",
    "set_num_threads",
    "tape_table",
]
__version__ = "0.1.0"

# These need NumPy or are seldom used: a plain script shall not wait for their import.
_LATER = {
    "Program": "fastgrad.program",
    "backward_steps": "fastgrad.listing",
    "compile": "fastgrad.program",
    "draw_dot": "fastgrad.graph",
    "fit": "fastgrad.fitting",
    "get_num_threads": "fastgrad.program",
    "load": "fastgrad.saving",
    "save": "fastgrad.saving",
    "set_num_threads": "fastgrad.program",
    "tape_table": "fastgrad.listing",
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
