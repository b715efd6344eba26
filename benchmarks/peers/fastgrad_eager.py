"""fastgrad in micrograd's place: the same code, another import."""

from benchmarks.peers.scalars import Numbers
from fastgrad.engine import Value
from fastgrad.nn import MLP

engine = Numbers(Value, MLP)
