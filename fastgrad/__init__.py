"""fastgrad: micrograd's scalar autodiff on a flat tape in Cython.

- ``fastgrad.engine.Value`` and ``fastgrad.nn`` are micrograd's, and drop in for them; ``nn`` has
  more: activations and draws by name, norms, dropout, embeddings, states;
- ``functional`` has the functions of several values (softmax, losses, ...), each as one C call;
- ``optim`` has optimizers whose step is one C call, schedules of their rate, and clipping;
- ``save(obj, path)`` and ``load(path)`` keep models' and optimizers' states in a file;
- ``fit(model, X, Y)`` trains a model over minibatches, with checkpoints to go on from;
- ``compile(f)`` records a function on one sample and runs it on whole batches;
- ``no_grad()`` computes without recording;
- ``detect_anomaly()`` finds the line that gives the first nan or inf;
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
    from fastgrad import nn, optim
    from fastgrad.fitting import fit
    from fastgrad.program import Program, compile, get_num_threads, set_num_threads
    from fastgrad.saving import load, save

__all__ = [
    "Program",
    "TraceError",
    "Value",
    "compile",
    "detect_anomaly",
    "fit",
    "functional",
    "get_num_threads",
    "install",
    "load",
    "nn",
    "no_grad",
    "optim",
    "save",
    "set_num_threads",
]
__version__ = "0.1.0"

# These need NumPy, whose import a plain script shall not wait for.
_LATER = {
    "Program": "fastgrad.program",
    "compile": "fastgrad.program",
    "fit": "fastgrad.fitting",
    "get_num_threads": "fastgrad.program",
    "load": "fastgrad.saving",
    "save": "fastgrad.saving",
    "set_num_threads": "fastgrad.program",
}


def __getattr__(name: str) -> Any:
    if name in ("nn", "optim"):
        return importlib.import_module(f"fastgrad.{name}")
    if name not in _LATER:
        raise AttributeError(f"module 'fastgrad' has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)


def load_ipython_extension(ipython: Any) -> None:
    """Do what ``%load_ext fastgrad`` asks for: `install`."""
    install()
