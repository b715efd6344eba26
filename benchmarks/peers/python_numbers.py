"""Python's own numbers, which keep no graph; and what every engine must find, by formulas."""

from benchmarks import scalars as workloads
from benchmarks.peers.scalars import Numbers


class Plain(Numbers):
    def start(self, leaves):
        pass

    def data(self, v):
        return v.real


engines = {"Python's float": Plain(float), "Python's complex": Plain(complex)}


class Sweep:
    """The gradient of x -> x * a + b, n times, from the geometric series."""

    def __init__(self, workload):
        self.n = workload.operations // 2

    def gradient(self):
        x, a, b = workloads.STARTS.values()
        value, dx, da, db = x, 1.0, 0.0, 0.0
        for _ in range(self.n):
            value, dx, da, db = value * a + b, dx * a, da * a + value, db * a + 1
        return value, [dx, da, db]

    def step(self):
        return self.gradient()[0]


class Chain(Sweep):
    pass


class Expression:
    """micrograd's README prints 24.7041, 138.8338 and 645.5773."""

    def __init__(self, workload):
        pass

    def gradient(self):
        def slope(by_a, by_b, step=1e-30):
            return value(complex(-4, step * by_a), complex(2, step * by_b)).imag / step

        def value(a, b):
            return workloads.readme(a, b, lambda v: v if v.real > 0 else 0 * v)

        return value(-4.0, 2.0), [slope(1, 0), slope(0, 1)]

    def step(self):
        return self.gradient()[0]
