"""micrograd itself, as its demo trains."""

from micrograd.engine import Value
from micrograd.nn import MLP

from benchmarks.peers.scalars import Numbers

engine = Numbers(Value, MLP)
