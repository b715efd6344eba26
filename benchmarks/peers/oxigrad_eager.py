"""oxigrad: micrograd's Value in Rust; activations are functions."""

from oxigrad import Activation, Value

from benchmarks.peers.scalars import Numbers


class Oxigrad(Numbers):
    def relu(self, v):
        return Activation.ReLU(v)


engine = Oxigrad(Value)
