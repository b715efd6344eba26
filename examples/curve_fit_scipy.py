"""SciPy's optimizers with exact gradients: a damped oscillation is fitted to noisy measurements.

    python examples/curve_fit_scipy.py

The loss is a compiled program; `value_and_grad` gives its mean and gradient at any parameters, as
scipy.optimize.minimize takes them with ``jac=True``. No step of a finite difference is to choose,
and an evaluation costs the same for any number of parameters.
"""

import numpy as np
from scipy.optimize import minimize

import fastgrad
from fastgrad import Value

NAMES = ["amplitude", "decay", "frequency", "phase"]
TRUE = [2.0, 0.3, 2.5, 0.4]

amplitude, decay, frequency, phase = parameters = [Value(x) for x in (1.0, 0.1, 2.2, 0.0)]


def oscillation(t):
    return amplitude * (-decay * t).exp() * (frequency * t + phase).cos()


@fastgrad.compile(parameters=parameters)
def loss(t, y):
    return (oscillation(t) - y) ** 2


def main():
    t = np.linspace(0, 8, 200)
    a, d, f, p = TRUE
    rng = np.random.default_rng(1)
    y = a * np.exp(-d * t) * np.cos(f * t + p) + rng.normal(scale=0.1, size=t.size)

    start = [value.data for value in parameters]
    result = minimize(lambda theta: loss.value_and_grad(t, y, theta=theta), start, jac=True)
    for value, number in zip(parameters, result.x):
        value.data = number

    print(f"{result.nfev} evaluations, mean squared error {result.fun:.4f} (the noise's is 0.01)")
    for name, value, true in zip(NAMES, parameters, TRUE):
        print(f"{name:>9} {value.data:6.3f} (true: {true})")


if __name__ == "__main__":
    main()
