"""Types of what Python sees of ``slots.pyx``."""

import numpy as np
from typing_extensions import disjoint_base

from fastgrad.value import Value

@disjoint_base
class Slots:
    values: list[Value]

    def __init__(self, values: list[Value]) -> None: ...
    def copy_data(self, to: np.ndarray) -> None: ...
    def add_grads(self, numbers: np.ndarray) -> None: ...
