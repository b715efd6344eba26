"""Types of what Python sees of ``replay.pyx``."""

from typing_extensions import disjoint_base

from fastgrad.recording import Recording

class NoIndex(IndexError): ...

@disjoint_base
class Replay:
    recording: Recording

    def __init__(self, recording: Recording) -> None: ...
    def describe(self, gradient: bool, samples: int) -> tuple[int, int, int, int]: ...

VARIANTS: tuple[str, ...]

def variant() -> str: ...
