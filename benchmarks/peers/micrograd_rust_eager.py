"""micrograd-rust: micrograd's Value in Rust. It has tanh and no relu, so that no net is trained."""

from micrograd_rust import Value

from benchmarks.peers.scalars import Numbers

engine = Numbers(Value)
