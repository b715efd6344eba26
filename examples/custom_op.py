"""An operation of your own, in micrograd's way: a node made by hand, with the rule of its gradient.

    python examples/custom_op.py

Such a node is a Python function: it works in eager code, not in compiled programs.
"""

import math

from fastgrad import Value, optim


def atan(self):
    """The arc tangent, in radians."""
    out = Value(math.atan(self.data), (self,), "atan")

    def _backward():
        self.grad += out.grad / (1 + self.data**2)

    out._backward = _backward
    return out


Value.atan = atan  # so that it reads like the others


def main():
    x = Value(0.75)
    y = (2 * x).atan()
    y.backward()
    step = 1e-6
    difference = (math.atan(2 * (0.75 + step)) - math.atan(2 * (0.75 - step))) / (2 * step)
    print(f"{y._op}: gradient {x.grad:.6f}, finite difference {difference:.6f}")

    # At which distance does a tower of 30 m rise 20 degrees above the horizon?
    distance = Value(50.0)
    adam = optim.Adam([distance], lr=0.5)
    for _ in range(600):
        loss = ((30 / distance).atan() - math.radians(20)) ** 2
        adam.zero_grad()
        loss.backward()
        adam.step()
    print(f"distance {distance.data:.2f} m, exactly {30 / math.tan(math.radians(20)):.2f} m")


if __name__ == "__main__":
    main()
