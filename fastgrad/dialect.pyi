"""Types of what Python sees of ``dialect.pyx``."""

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
    own_sub: bool = False,
    frozen: Iterable[str] = (),
    numpy: Callable[[], object] | None = None,
    no_numpy_int: int = 0,
    relu: int = 0,
    may_set: Callable[[Any, str], object] | None = None,
    hook: Callable[..., None] | None = None,
) -> None: ...
