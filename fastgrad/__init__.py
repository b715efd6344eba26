"""fastgrad: micrograd's scalar autodiff on a flat tape in Cython.

- ``fastgrad.engine.Value`` and ``fastgrad.nn`` are micrograd's, and drop in for them;
- ``no_grad()`` computes without recording;
- ``install()`` makes ``import micrograd`` give fastgrad in this process, and
  ``python -m fastgrad script.py`` runs a script that way, unchanged.
"""

from fastgrad.engine import Value, no_grad
from fastgrad.redirect import install

__all__ = ["Value", "install", "no_grad"]
__version__ = "0.1.0"
