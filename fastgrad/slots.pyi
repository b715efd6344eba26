"""Types of what Python sees of ``slots.pyx``."""

from typing_extensions import disjoint_base

from fastgrad.value import Value

@disjoint_base
class Slots:
    values: list[Value]

    def __init__(self, values: list[Value]) -> None: ...
