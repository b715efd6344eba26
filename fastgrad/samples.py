"""Samples to train on: what `fit` is given, checked and divided.

Invariant: what passes has a target for each sample, and nothing in it is nan or inf.
"""

from typing import Any, TypeAlias

import numpy as np

from fastgrad.batch import numbers_of

Samples: TypeAlias = tuple[np.ndarray, np.ndarray]


def _read(X: Any, Y: Any, where: str) -> Samples:
    """X and Y as arrays of as many samples."""
    samples, targets = numbers_of(X, f"{where}X"), numbers_of(Y, f"{where}Y")
    for name, array in ("X", samples), ("Y", targets):
        if array.ndim == 0:
            raise ValueError(f"{where}{name} must be an array of samples, got the number {array}")
    if len(samples) != len(targets):
        raise ValueError(
            f"{where}X has {len(samples)} samples, {where}Y has {len(targets)}: expected a target "
            "for each sample"
        )
    if len(samples) == 0:
        raise ValueError(f"{where}X and Y have no samples")
    for name, array in ("X", samples), ("Y", targets):
        finite = np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
        if not finite.all():
            raise ValueError(f"{where}{name} is not finite in sample {finite.argmin()}")
    return samples, targets


def divide(X: Any, Y: Any, validation: Any, seed: int) -> tuple[Samples, Samples | None]:
    """What to train on, and what is held out."""
    X, Y = _read(X, Y, "")
    if validation is None:
        return (X, Y), None
    if isinstance(validation, tuple) and len(validation) == 2:
        held_out = _read(*validation, "validation ")
        for name, own, other in zip("XY", (X, Y), held_out):
            if own.shape[1:] != other.shape[1:]:
                raise ValueError(
                    f"samples of validation {name} have the shape {other.shape[1:]}, expected "
                    f"{own.shape[1:]}, that of {name}"
                )
        return (X, Y), held_out
    if isinstance(validation, bool) or not isinstance(validation, (int, float)):
        raise TypeError(
            "validation must be a share of the samples or a pair (X, Y), got "
            f"{type(validation).__name__} {validation!r:.60}"
        )
    count = round(validation * len(X)) if 0 < validation < 1 else 0
    if not 0 < count < len(X):
        raise ValueError(
            f"validation={validation} holds none of {len(X)} samples out, or all: expected a share "
            "between 0 and 1"
        )
    order = np.random.default_rng(seed).permutation(len(X))
    held, kept = order[:count], order[count:]
    return (X[kept], Y[kept]), (X[held], Y[held])


def check_targets(loss: str, shape: tuple[int, ...], targets: np.ndarray) -> None:
    """Raise unless they are what a loss compares an output of this shape with."""
    if loss == "cross_entropy":
        if len(shape) != 1 or targets.ndim != 1:
            remedy = "choose loss='mse', or 'hinge' for labels -1 and 1, or widen the last layer"
            if len(shape) == 1 and targets.shape[1:] == (1,):
                remedy = "pass Y.ravel()"
            raise ValueError(
                f"cross_entropy needs a row of outputs, one for each class, and a label a sample, "
                f"got outputs of shape {shape} and targets of shape {targets.shape[1:]}: {remedy}"
            )
        wrong = (targets < 0) | (targets >= shape[0]) | (targets != np.floor(targets))
        expected = f"whole numbers from 0 to {shape[0] - 1}, as the model has {shape[0]} outputs"
    else:
        if targets.shape[1:] != shape:
            are_labels = len(shape) == 1 and targets.ndim == 1
            remedy = ": labels of classes must be ints, as Y.astype(int) makes them"
            raise ValueError(
                f"{loss} needs targets of the shape of an output, {shape}, got {targets.shape[1:]}"
                + remedy * are_labels
            )
        if loss == "mse":
            return
        wrong = (abs(targets) != 1).any(axis=tuple(range(1, targets.ndim)))
        expected = "-1 or 1"
    if wrong.any():
        k = wrong.argmax()
        raise ValueError(
            f"the label of sample {k} is out of range: got {targets[k].tolist()}, "
            f"expected {expected}"
        )
