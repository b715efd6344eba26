"""Optimizers, schedules of their learning rate, and clipping of gradients, as in PyTorch.

- `SGD`, `Adam`, `AdamW` and `RMSprop` change all parameters in one C call a step;
- `StepLR`, `CosineAnnealingLR` and `LinearLR` change an optimizer's learning rate from epoch to
  epoch;
- `clip_grad_norm_` and `clip_grad_value_` make large gradients smaller before a step.

Names, defaults and formulas are those of torch.optim and torch.nn.utils, and so are the results in
float64, but for the last bits. `state_dict()` of an optimizer or a schedule is flat, and
`load_state_dict()` takes it only if all of it fits.
"""

from fastgrad.clip import clip_grad_norm_, clip_grad_value_
from fastgrad.descent import SGD, Adam, AdamW, RMSprop
from fastgrad.optimizer import Optimizer
from fastgrad.schedules import CosineAnnealingLR, LinearLR, LRScheduler, StepLR

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "CosineAnnealingLR",
    "LRScheduler",
    "LinearLR",
    "Optimizer",
    "RMSprop",
    "StepLR",
    "clip_grad_norm_",
    "clip_grad_value_",
]
