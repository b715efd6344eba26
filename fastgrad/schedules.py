"""Schedules of the learning rate: `StepLR`, `CosineAnnealingLR` and `LinearLR`, as in PyTorch.

Each computes the next rate from the optimizer's present one, by PyTorch's recursive formulas: so a
rate that was changed by hand, or by another schedule of the same optimizer, is honoured.

Invariant: a call that raises has changed nothing. Making a schedule sets the optimizer's rate to
that of its first epoch; afterwards only `step` does.
"""

import math
from collections.abc import Mapping
from typing import Any

from fastgrad.optimizer import Optimizer, checked
from fastgrad.states import mismatches, plain, refuse, stored


class LRScheduler:
    """What all schedules have in common; it has no formula of its own.

    Parameters
    ----------
    optimizer : Optimizer
    settings : dict
        The schedule's own, by name; they become attributes.
    last_epoch : int
        -1 to begin; or the number of the last epoch of an earlier run, whose optimizer's state has
        been loaded. Better load the schedule's state too, with `load_state_dict`.

    Attributes
    ----------
    last_epoch : int
        The present epoch; the first is 0.
    base_lrs : list of one number
        The rate that the optimizer had at first.
    """

    def __init__(self, optimizer: Optimizer, settings: dict[str, Any], last_epoch: int) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                "optimizer must be an Optimizer, say optim.SGD(model.parameters()), "
                f"got {type(optimizer).__name__}"
            )
        check_whole("last_epoch", last_epoch, -1)
        self._check(settings)
        group = optimizer.param_groups[0]
        if last_epoch >= 0 and "initial_lr" not in group:
            raise ValueError(
                f"last_epoch={last_epoch} goes on with an earlier schedule, but the optimizer has "
                "had none: load the optimizer's state first, or leave last_epoch out"
            )
        checked(group["lr"], "lr", "learning rate")
        self.optimizer = optimizer
        self.base_lrs: list[float] = [group.setdefault("initial_lr", group["lr"])]
        self._settings = tuple(settings)
        vars(self).update(settings)
        self._begin(last_epoch + 1, resumed=last_epoch >= 0)

    def _check(self, settings: dict[str, Any]) -> None:
        """Raise if a setting is a bad one."""
        raise TypeError("LRScheduler has no formula: use StepLR, CosineAnnealingLR or LinearLR")

    def _next_lr(self, lr: float, epoch: int, resumed: bool) -> float:
        """Compute an epoch's rate from the one before; resumed, from what an earlier run left."""
        raise NotImplementedError(f"{type(self).__name__} must define _next_lr")

    def _begin(self, epoch: int, *, resumed: bool = False) -> None:
        group = self.optimizer.param_groups[0]
        group["lr"] = self._last_lr = self._next_lr(group["lr"], epoch, resumed)
        self.last_epoch = epoch

    def step(self) -> None:
        """Begin the next epoch: set the optimizer's learning rate. Call it after the epoch's steps.

        Examples
        --------
        >>> from fastgrad import Value, optim
        >>> optimizer = optim.SGD([Value(1.0)], lr=0.5)
        >>> schedule = optim.StepLR(optimizer, step_size=2, gamma=0.5)
        >>> for epoch in range(3):
        ...     print(optimizer.lr)
        ...     optimizer.step()
        ...     schedule.step()
        0.5
        0.5
        0.25
        """
        self._begin(self.last_epoch + 1)

    def get_last_lr(self) -> list[float]:
        """Return the rate that the schedule set last, in a list of one.

        Examples
        --------
        >>> from fastgrad import Value, optim
        >>> schedule = optim.LinearLR(optim.SGD([Value(1.0)], lr=0.5), start_factor=0.5)
        >>> schedule.get_last_lr()
        [0.25]
        """
        return [self._last_lr]

    def state_dict(self) -> dict[str, Any]:
        """All that later rates depend on, but for the optimizer's own rate, which is its state's.

        Returns
        -------
        dict of str to int, float and str
            ``"schedule"``, the class; the settings; ``"base_lr"``, ``"last_epoch"``, ``"last_lr"``.

        Examples
        --------
        >>> from fastgrad import Value, optim
        >>> schedule = optim.StepLR(optim.SGD([Value(1.0)], lr=0.5), step_size=2)
        >>> schedule.state_dict()
        {'schedule': 'StepLR', 'step_size': 2, 'gamma': 0.1,
         'base_lr': 0.5, 'last_epoch': 0, 'last_lr': 0.5}
        """
        return {
            "schedule": type(self).__name__,
            **{name: stored(getattr(self, name)) for name in self._settings},
            "base_lr": stored(self.base_lrs[0]),
            "last_epoch": self.last_epoch,
            "last_lr": stored(self._last_lr),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on as the schedule would whose state it is; the optimizer's rate stays as it is.

        Load the optimizer's state after the schedule was made, as making one sets the rate.

        Parameters
        ----------
        state_dict : dict
            What `state_dict` returned.

        Raises
        ------
        TypeError
            If it is no dict, or a setting no number.
        ValueError
            If it is the state of a schedule of another class, a name is missing or unknown, or
            something is out of range.

        Examples
        --------
        >>> from fastgrad import Value, optim
        >>> state = optim.StepLR(optim.SGD([Value(1.0)]), step_size=30).state_dict()
        >>> schedule = optim.StepLR(optim.SGD([Value(1.0)]), step_size=1)
        >>> schedule.load_state_dict(state)
        >>> schedule.step_size
        30
        """
        own = {"schedule": type(self).__name__}
        names = (*self._settings, "base_lr", "last_epoch", "last_lr")
        refuse("schedule", mismatches(state_dict, own, names))
        state = {name: plain(state_dict[name]) for name in names}
        settings = {name: state[name] for name in self._settings}
        self._check(settings)
        check_whole("last_epoch", state["last_epoch"], 0)
        for name in "base_lr", "last_lr":
            checked(state[name], name, "learning rate")
        vars(self).update(settings)
        self.base_lrs, self.last_epoch = [state["base_lr"]], state["last_epoch"]
        self._last_lr = state["last_lr"]


def check_whole(name: str, number: object, least: int) -> None:
    """Raise unless it is an int of at least `least`."""
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"{name} must be an int, got {type(number).__name__} {number!r}")
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")


class StepLR(LRScheduler):
    """Every `step_size` epochs the learning rate is multiplied by `gamma`.

    torch.optim.lr_scheduler.StepLR.

    Parameters
    ----------
    optimizer : Optimizer
    step_size : int
        Epochs, at least 1.
    gamma : number
        At least 0.
    last_epoch : int
        -1 to begin; or the number of the last epoch of an earlier run.

    Raises
    ------
    TypeError
        If `optimizer` is none, or a setting no number.
    ValueError
        If a setting is out of range, or the optimizer has had no schedule that could go on.

    Examples
    --------
    >>> from fastgrad import Value, optim
    >>> optimizer = optim.SGD([Value(1.0)], lr=1.0)
    >>> schedule = optim.StepLR(optimizer, step_size=30, gamma=0.5)
    >>> for epoch in range(60):
    ...     schedule.step()
    >>> optimizer.lr
    0.25
    """

    step_size: int
    gamma: float

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        super().__init__(optimizer, {"step_size": step_size, "gamma": gamma}, last_epoch)

    def _check(self, settings: dict[str, Any]) -> None:
        check_whole("step_size", settings["step_size"], 1)
        checked(settings["gamma"], "gamma", "gamma")

    def _next_lr(self, lr: float, epoch: int, resumed: bool) -> float:
        if epoch == 0 or epoch % self.step_size:
            return lr
        return lr * self.gamma


class CosineAnnealingLR(LRScheduler):
    """The learning rate follows half a cosine from where it is down to `eta_min`, and up again.

    torch.optim.lr_scheduler.CosineAnnealingLR, after Loshchilov and Hutter (2017), without
    restarts: in epoch t the rate is
    ``eta_min + (lr - eta_min) * (1 + cos(pi * t / T_max)) / 2``.

    Parameters
    ----------
    optimizer : Optimizer
    T_max : int
        Epochs to the lowest rate, at least 1.
    eta_min : number
        The lowest rate, at least 0.
    last_epoch : int
        -1 to begin; or the number of the last epoch of an earlier run.

    Raises
    ------
    TypeError
        If `optimizer` is none, or a setting no number.
    ValueError
        If a setting is out of range, or the optimizer has had no schedule that could go on.

    Examples
    --------
    >>> from fastgrad import Value, optim
    >>> optimizer = optim.SGD([Value(1.0)], lr=1.0)
    >>> schedule = optim.CosineAnnealingLR(optimizer, T_max=10)
    >>> for epoch in range(5):
    ...     schedule.step()
    >>> round(optimizer.lr, 9)
    0.5
    """

    T_max: int
    eta_min: float

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        super().__init__(optimizer, {"T_max": T_max, "eta_min": eta_min}, last_epoch)

    def _check(self, settings: dict[str, Any]) -> None:
        check_whole("T_max", settings["T_max"], 1)
        checked(settings["eta_min"], "eta_min", "eta_min")

    def _next_lr(self, lr: float, epoch: int, resumed: bool) -> float:
        period, least = self.T_max, self.eta_min
        if epoch == 0 or resumed:
            return lr
        if (epoch - 1 - period) % (2 * period) == 0:  # up from eta_min, where the ratio is 0 / 0
            return lr + (self.base_lrs[0] - least) * (1 - math.cos(math.pi / period)) / 2
        ratio = (1 + math.cos(math.pi * epoch / period)) / (
            1 + math.cos(math.pi * (epoch - 1) / period)
        )
        return ratio * (lr - least) + least


class LinearLR(LRScheduler):
    """The learning rate goes from one share of itself to another, by the same amount an epoch.

    torch.optim.lr_scheduler.LinearLR; a start below 1 is a warm-up.

    Parameters
    ----------
    optimizer : Optimizer
    start_factor : number
        Share of the optimizer's rate in epoch 0; above 0, at most 1.
    end_factor : number
        Share from epoch `total_iters` on; from 0 to 1.
    total_iters : int
        Epochs, at least 1.
    last_epoch : int
        -1 to begin; or the number of the last epoch of an earlier run.

    Raises
    ------
    TypeError
        If `optimizer` is none, or a setting no number.
    ValueError
        If a setting is out of range, or the optimizer has had no schedule that could go on.

    Examples
    --------
    >>> from fastgrad import Value, optim
    >>> optimizer = optim.SGD([Value(1.0)], lr=1.0)
    >>> schedule = optim.LinearLR(optimizer, start_factor=0.5, total_iters=4)
    >>> rates = []
    >>> for epoch in range(6):
    ...     rates.append(round(optimizer.lr, 9))
    ...     schedule.step()
    >>> rates
    [0.5, 0.625, 0.75, 0.875, 1.0, 1.0]
    """

    start_factor: float
    end_factor: float
    total_iters: int

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        settings = {
            "start_factor": start_factor,
            "end_factor": end_factor,
            "total_iters": total_iters,
        }
        super().__init__(optimizer, settings, last_epoch)

    def _check(self, settings: dict[str, Any]) -> None:
        start, end = (
            checked(settings[name], name, name) for name in ("start_factor", "end_factor")
        )
        if not 0 < start <= 1:
            raise ValueError(f"start_factor must be above 0 and at most 1, got {start}")
        if end > 1:
            raise ValueError(f"end_factor must be from 0 to 1, got {end}")
        check_whole("total_iters", settings["total_iters"], 1)

    def _next_lr(self, lr: float, epoch: int, resumed: bool) -> float:
        start, total = self.start_factor, self.total_iters
        if epoch == 0:
            return lr * start
        if resumed or epoch > total:
            return lr
        rise = self.end_factor - start
        return lr * (1.0 + rise / (total * start + (epoch - 1) * rise))
