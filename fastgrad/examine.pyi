"""Types of what Python sees of ``examine.pyx``."""

from typing import Any

from fastgrad.batch import Batch
from fastgrad.recording import Recording

def examine(
    recording: Recording, batch: Batch, theta: Any, gradient: bool
) -> tuple[int, int, str] | None: ...
