"""Types of what Python sees of ``record.pyx``."""

from collections.abc import Callable, Iterable
from typing import Any

def set_dialect(
    *,
    int_grad: bool = True,
    int_seed: bool = True,
    floats: bool = False,
    no_reflected: int = 0,
    no_comparison: int = 0,
    no_value_power: bool = False,
    frozen: Iterable[str] = (),
    may_set: Callable[[Any, str], object] | None = None,
    hook: Callable[..., None] | None = None,
) -> None: ...
