"""Types of what Python sees of ``examine.pyx``."""

from typing import Any

from fastgrad.recording import Recording

def examine(
    recording: Recording, arrays: list[Any], batch: int, theta: Any, gradient: bool
) -> tuple[int, int, str] | None: ...
