"""Optimizers, as in PyTorch: `SGD`, `Adam`, `AdamW` and `RMSprop`, each step one C call.

Names, defaults and formulas are those of torch.optim, and so are the results in float64, but for the
last bits. `state_dict()` is flat, and `load_state_dict()` takes it only if all of it fits.
"""

from fastgrad.descent import SGD, Adam, AdamW, RMSprop
from fastgrad.optimizer import Optimizer

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop"]
