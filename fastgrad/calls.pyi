"""Types of what Python sees of ``calls.pyx``."""

from collections.abc import Callable
from typing import Any

import numpy as np
from typing_extensions import disjoint_base

from fastgrad.arguments import Arguments
from fastgrad.batch import Batch
from fastgrad.linear import Linear
from fastgrad.optimizer import Optimizer
from fastgrad.recording import Recording
from fastgrad.signature import Captured, Fill
from fastgrad.value import Value

SERIAL_NS: int

@disjoint_base
class Traced:
    recording: Recording
    places: np.ndarray[Any, Any] | None
    static: tuple[tuple[str, Any], ...]
    output: tuple[int, ...]
    hidden: list[tuple[int, Fill]]

    def __init__(
        self,
        recording: Recording,
        own: list[Value],
        captured: Captured,
        static: tuple[tuple[str, Any], ...],
        output: tuple[int, ...],
        hidden: list[tuple[int, Fill]],
    ) -> None: ...
    def check_indices(self, batch: Batch, names: list[str]) -> None: ...
    def describe(self) -> tuple[int, int, int, int]: ...
    def examine(
        self, batch: Batch, theta: np.ndarray[Any, Any] | None, gradient: bool
    ) -> tuple[int, int, str] | None: ...
    def parameters(self, theta: np.ndarray[Any, Any] | None) -> np.ndarray[Any, Any]: ...
    def linearised(self, key: Any, numbers: Callable[[], np.ndarray[Any, Any]]) -> Linear: ...
    def put_back(self, key: Any, linear: Linear) -> None: ...

@disjoint_base
class Calls:
    check_finite: bool
    _call: Arguments
    _captured: Captured
    _traced: dict[Any, Traced]

    @property
    def threads(self) -> int | None: ...
    @threads.setter
    def threads(self, n: int | None) -> None: ...
    def _prepare(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], gradient: bool = False
    ) -> tuple[Traced, Batch, list[str]]: ...
    def _run(
        self,
        mode: str,
        traced: Traced,
        batch: Batch,
        names: list[str],
        theta: np.ndarray[Any, Any] | None = None,
    ) -> tuple[Any, np.ndarray[Any, Any]]: ...
    def _descend(
        self,
        optimizer: Optimizer,
        steered: tuple[Value, ...],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> float: ...
