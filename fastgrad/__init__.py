"""fastgrad: micrograd's scalar autodiff on a flat tape in Cython.

- ``fastgrad.engine.Value`` and ``fastgrad.nn`` are micrograd's, and drop in for them;
- ``functional`` has the functions of several values (softmax, losses, ...), each as one C call;
- ``no_grad()`` computes without recording;
- ``install()`` makes ``import micrograd`` give fastgrad in this process, and so does
  ``%load_ext fastgrad`` in Jupyter;
- ``python -m fastgrad script.py`` runs a script that way, unchanged, also one that carries its
  own class like micrograd's.
"""

from typing import Any

from fastgrad import functional
from fastgrad.engine import Value, no_grad
from fastgrad.redirect import install

__all__ = ["Value", "functional", "install", "no_grad"]
__version__ = "0.1.0"


def load_ipython_extension(ipython: Any) -> None:
    """Do what ``%load_ext fastgrad`` asks for: `install`."""
    install()
