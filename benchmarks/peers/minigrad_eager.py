"""minigrad: micrograd's Value written in C for CPython, with micrograd's nn."""

from minigrad import Value
from minigrad.nn import MLP

from benchmarks.peers.scalars import Numbers

engine = Numbers(Value, MLP)
