"""Types of what Python sees of ``tape.pyx``."""

from typing import TypedDict

class _Op(TypedDict):
    name: str
    label: str
    operands: int
    shown: int
    domain: tuple[tuple[float, float], ...]

class _Usage(TypedDict):
    entries: int
    handles: int
    capacity: int
    bytes: int
    collections: int

def check_count(count: int, what: str, most: int = ...) -> int: ...
def reclaim() -> int: ...
def usage() -> _Usage: ...
def op_table() -> list[_Op]: ...
