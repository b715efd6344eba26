"""`fit`: a training loop over minibatches, that can be stopped at any moment and go on.

All of it can be written by hand with public parts: docs/training.md does.  Nothing random is kept
in memory only: the samples' order follows from the seed and the number of the epoch, and what
Dropout draws from Python's ``random``, whose state is part of a checkpoint.

Invariant: what is bad in the input raises before anything is changed.
"""

import contextlib
import hashlib
import importlib.util
import math
import os
import random
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from fastgrad import functional, optim
from fastgrad.engine import Value
from fastgrad.module import Module, held
from fastgrad.optimizer import checked
from fastgrad.program import Program, compile
from fastgrad.samples import Samples, check_targets, divide
from fastgrad.saving import load, save
from fastgrad.schedules import check_whole
from fastgrad.states import mismatches

MEASURED = 500  # training samples, at most: all may take a third of an epoch
History: TypeAlias = dict[str, list[float]]
_Hits: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]

_LOSSES: dict[str, tuple[Callable[..., Value], _Hits | None]] = {
    "cross_entropy": (functional.cross_entropy, lambda out, labels: out.argmax(axis=1) == labels),
    "hinge": (functional.hinge, lambda out, labels: (out > 0) == (labels > 0)),
    "mse": (functional.mse, None),
}


def fit(
    model: Module | Program,
    X: Any,
    Y: Any,
    *,
    loss: str | Callable[..., Value] | None = None,
    optimizer: optim.Optimizer | None = None,
    epochs: int = 10,
    batch_size: int = 32,
    schedule: optim.LRScheduler | None = None,
    clip_norm: float | None = None,
    validation: float | tuple[Any, Any] | None = None,
    patience: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: bool = True,
    client: Any = None,
    shards: int | None = None,
) -> History:
    """Train a model, or whatever a compiled loss depends on, and tell how it went.

    Parameters
    ----------
    model : Module or Program
        A module, which is compiled together with the loss; or a program of two arguments, a sample
        and its target, that gives the sample's loss.
    X : array_like, shape (n, ...)
    Y : array_like, shape (n, ...)
        Targets; labels as ints.
    loss : str or callable, optional
        Of a module: ``"cross_entropy"``, the default where `Y` are ints; ``"mse"``, the default for
        other targets; ``"hinge"``, for labels -1 and 1; or a function of what the module gives and
        the target, that returns a Value.
    optimizer : Optimizer, optional
        ``optim.Adam`` of all parameters if not given.
    epochs, batch_size : int
        Each epoch takes all samples in an order of its own; the last batch may be smaller.
    schedule : LRScheduler, optional
        Of `optimizer`; stepped after each epoch.
    clip_norm : number, optional
        What the norm of the gradients may be (`optim.clip_grad_norm_`).
    validation : number or pair of array_like, optional
        The share of the samples that is held out, chosen at random; or X and Y of others.
    patience : int, optional
        Stop after so many epochs without a lower loss than ever, and go back to the parameters of
        the best epoch. It is the validation loss that counts, or the loss if there is none.
    checkpoint : str or path-like, optional
        A file, written at the start and after each epoch. If it is there already, training goes on
        from it as if it had never stopped, with the same bits, whatever ended the run before;
        `epochs` and `patience` may be others. ``fastgrad.load(checkpoint)["best"]`` is the state of
        the best epoch.
    seed : int
        Of the order of samples and of the choice of those held out, at least 0; with `client` of
        what Dropout draws too.
    progress : bool
        Whether to show a bar, if tqdm is installed.
    client : distributed.Client, optional
        Of a Dask cluster, whose workers compute the gradients (`distributed.DataParallel`): of the
        same batches, each worker from those samples that lie there. Worth it for large batches.
    shards : int, optional
        With `client`: in how many parts the samples lie on the cluster; as many as it has threads
        at the start if not given. The bits depend on it, and not on the cluster.

    Returns
    -------
    dict of str to list of float
        A number an epoch: ``"loss"``, the mean over the epoch's batches, each before its step;
        ``"lr"``; with validation data ``"validation_loss"``; for labels by name of the loss
        ``"validation_accuracy"``, or without validation data ``"accuracy"``, of at most 500
        samples drawn at random: from 0 to 1 and after the epoch.

    Raises
    ------
    TypeError
        If `model`, `loss`, `optimizer`, `schedule` or a number is something else, or X or Y holds
        no numbers.
    ValueError
        If X and Y differ in length, are empty or not finite; labels, shapes or a number are out of
        range; there are no parameters, or the optimizer has others; or the checkpoint is damaged
        or another run's. Nothing has been changed then.
    IndexError
        If a label is out of range for a program. Nothing has been changed then either.
    OSError
        If the checkpoint cannot be read or written.
    FloatingPointError
        If a loss is not finite any more. The checkpoint is that of the epoch before.
    ImportError
        If there is a `client`, but not all that ``pip install "fastgrad[dask]"`` brings.

    Notes
    -----
    Parameters, the optimizer and the schedule are changed in place. A module is in training mode
    while it is trained, in that of `Module.eval` otherwise and afterwards; the parts of a program
    stay as they are.

    Examples
    --------
    >>> import random, fastgrad
    >>> from fastgrad import nn, optim
    >>> random.seed(1)
    >>> X, Y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    >>> model = nn.MLP(2, [8, 2])
    >>> adam = optim.Adam(model.parameters(), lr=0.05)
    >>> history = fastgrad.fit(model, X, Y, optimizer=adam, epochs=100, progress=False)
    >>> list(history), history["accuracy"][-1]
    (['loss', 'lr', 'accuracy'], 1.0)
    """
    check_whole("epochs", epochs, 1)
    check_whole("batch_size", batch_size, 1)
    check_whole("seed", seed, 0)
    if patience is not None:
        check_whole("patience", patience, 1)
    if clip_norm is not None:
        checked(clip_norm, "clip_norm", "clip_norm")
    data, held_out = divide(X, Y, validation, seed)
    task = _Task(model, loss, data, held_out, are_labels=np.asarray(Y).dtype.kind in "iub")
    run = _Run(task, task.optimizer(optimizer, schedule), schedule, batch_size, clip_norm, seed)
    with task.laid_out(client, shards):
        return _trained(run, epochs, patience, checkpoint, progress)


def _trained(
    run: "_Run",
    epochs: int,
    patience: int | None,
    checkpoint: str | os.PathLike[str] | None,
    progress: bool,
) -> History:
    """Let it run, from its checkpoint if there is one."""
    task = run.task
    keeps_best = patience is not None or checkpoint is not None
    if checkpoint is not None:
        if os.path.exists(checkpoint):
            run.resume(checkpoint)
        else:
            run.save(checkpoint)  # now, as the first parameters may be other ones next time
    batches = math.ceil(len(task.data[0]) / run.batch_size)
    bar = _bar(run.epoch, epochs, batches, progress, task.dashboard)
    try:
        while run.epoch < epochs and (patience is None or run.epochs_since_best < patience):
            run.train(bar)
            if keeps_best and run.epochs_since_best == 0:
                run.best = task.module.state_dict()
            if checkpoint is not None:
                run.save(checkpoint)
    finally:
        task.set_mode(training=False)
        if bar is not None:
            bar.close()
    if patience is not None:
        task.module.load_state_dict(run.best)
    return run.history


class _Task:
    """What is trained, on what, and how it is measured."""

    def __init__(
        self,
        model: Module | Program,
        loss: str | Callable[..., Value] | None,
        data: Samples,
        held_out: Samples | None,
        are_labels: bool,
    ) -> None:
        self.data, self.held_out = data, held_out
        self.parallel: Any = None  # the program on a cluster, with the data
        self.predict: Program | None = None
        self.hits: _Hits | None = None
        if isinstance(model, Program):
            if loss is not None:
                raise TypeError(f"a program gives the loss itself, got loss={loss!r:.60} beside it")
            if not model._call.takes(2):
                raise TypeError(
                    f"fit needs a program of a sample and its target, which gives the loss, got "
                    f"{model.__name__} of other arguments: to train a module, pass it uncompiled"
                )
            self.loss, self.program = model.__name__, model
        elif isinstance(model, Module):
            self._compile(model, loss, are_labels)
        else:
            raise TypeError(
                f"fit needs an nn.Module or a compiled program, got {type(model).__name__} "
                f"{model!r:.60}: fastgrad.compile makes a program of a function of x and y"
            )
        for samples in filter(None, (data, held_out)):
            losses = self.program(*samples)  # what it refuses, it shall refuse now
            if losses.ndim != 1:
                raise ValueError(
                    f"fit needs one number a sample, {self.loss} gives {losses.shape[1:]}: return "
                    "one Value, say the mean"
                )
        self.module = model if isinstance(model, Module) else _Parameters(model.parameters)
        # Kept, as train() looks for them among all Values, which takes as long as some epochs.
        self.modules = list(self.module.modules())
        self.used = set(self.program.parameters)
        for part in self.modules:
            if type(part).parameters is Module.parameters and self.used & set(held(part)):
                raise ValueError(
                    f"{type(part).__name__} has Values that the loss depends on, but no "
                    "parameters(): define it, to list those that are trained, [] if none is"
                )

    def _compile(
        self, model: Any, loss: str | Callable[..., Value] | None, are_labels: bool
    ) -> None:
        if loss is None:
            loss = "cross_entropy" if are_labels else "mse"
        if not callable(loss) and loss not in _LOSSES:
            raise ValueError(
                f"loss must be one of {', '.join(_LOSSES)} or a function of output and target, "
                f"got {loss!r:.60}"
            )
        function, hits = (loss, None) if callable(loss) else _LOSSES[loss]
        self.loss = getattr(loss, "__name__", type(loss).__name__) if callable(loss) else loss
        self.program = compile(lambda x, y: function(model(x), y))
        self.predict, self.hits = compile(model), hits
        if isinstance(loss, str):
            shape = self.predict(self.data[0][:1]).shape[1:]
            for _, targets in filter(None, (self.data, self.held_out)):
                check_targets(loss, shape, targets)

    def optimizer(
        self, optimizer: optim.Optimizer | None, schedule: optim.LRScheduler | None
    ) -> optim.Optimizer:
        """The one that was given, if it steers what is trained, or else the default."""
        if schedule is not None and not isinstance(schedule, optim.LRScheduler):
            raise TypeError(
                f"schedule must be one of fastgrad.optim's, got {type(schedule).__name__}"
            )
        if schedule is not None and schedule.optimizer is not optimizer:
            raise ValueError("schedule is another optimizer's: make it of the one that is given")
        if optimizer is None:
            optimizer = optim.Adam(self.module.parameters())
        if not self.used:
            raise ValueError(
                f"the loss depends on no parameter: {self.loss} must compute it from the model's "
                "output"
            )
        if not isinstance(optimizer, optim.Optimizer):
            raise TypeError(
                "optimizer must be an Optimizer, say optim.SGD(model.parameters()), "
                f"got {type(optimizer).__name__}"
            )
        checked(optimizer.lr, "lr", "learning rate")
        if self.used.isdisjoint(optimizer.param_groups[0]["params"]):
            raise ValueError(
                f"the loss depends on none of the optimizer's parameters, but on {len(self.used)} "
                "others: make the optimizer of the model's parameters"
            )
        return optimizer

    @contextlib.contextmanager
    def laid_out(self, client: Any, shards: int | None) -> Iterator[None]:
        """With the program and the data on a cluster, if there is one."""
        if client is None:
            if shards is not None:
                raise TypeError(f"shards={shards!r:.60} needs client=, a cluster to lie on")
            yield
            return
        from fastgrad.distributed import DataParallel  # needs Dask

        with DataParallel(self.program, client) as self.parallel:
            modes = [part.training for part in self.modules]
            self.set_mode(training=True)  # in which it is sent
            try:
                self.parallel.shard(*self.data, shards=shards)
            finally:
                for part, mode in zip(self.modules, modes):
                    part.training = mode
            yield

    @property
    def dashboard(self) -> str | None:
        """Where the cluster shows what it does."""
        return None if self.parallel is None else self.parallel.client.dashboard_link

    def batches(
        self, order: np.ndarray, size: int, rng: np.random.Generator
    ) -> Iterator[tuple[int, tuple[np.ndarray, ...], dict[str, int]]]:
        """How many samples a batch has, and what a step is given of it."""
        parts = range(0, len(order), size)
        if self.parallel is not None:
            for start in parts:
                rows = order[start : start + size]
                yield len(rows), (rows,), {"seed": int(rng.integers(1 << 63))}
            return
        X, Y = (array[order] for array in self.data)  # at once, faster than batch by batch
        for start in parts:
            x = X[start : start + size]
            yield len(x), (x, Y[start : start + size]), {}

    def set_mode(self, training: bool) -> None:
        for part in self.modules:
            part.training = training

    def measure(self, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
        """What the history tells beside the loss: of these samples, unless some are held out."""
        figures, prefix = {}, ""
        if self.held_out is not None:
            (x, y), prefix = self.held_out, "validation_"
            figures["validation_loss"] = float(self.program(x, y).mean())
        if self.predict is not None and self.hits is not None:
            figures[f"{prefix}accuracy"] = float(self.hits(self.predict(x), y).mean())
        return figures


class _Run:
    """A training under way: all that a checkpoint holds."""

    def __init__(
        self,
        task: _Task,
        optimizer: optim.Optimizer,
        schedule: optim.LRScheduler | None,
        batch_size: int,
        clip_norm: float | None,
        seed: int,
    ) -> None:
        self.task, self.optimizer, self.schedule = task, optimizer, schedule
        self.batch_size, self.clip_norm, self.seed = batch_size, clip_norm, seed
        self.params = optimizer.param_groups[0]["params"]
        self.history: History = {}
        self.best: Any = None

    @property
    def epoch(self) -> int:
        return len(self.history.get("loss", ()))

    @property
    def epochs_since_best(self) -> int:
        losses = self.history.get("validation_loss") or self.history.get("loss")
        return self.epoch - 1 - losses.index(min(losses)) if losses else 0

    def train(self, bar: Any) -> None:
        """Train an epoch."""
        task, (X, Y) = self.task, self.task.data
        # Not of the seed alone: that is the order in which samples were held out.
        rng = np.random.default_rng((self.seed, self.epoch + 1))
        order = rng.permutation(len(X))
        lr, total = self.optimizer.lr, 0.0
        task.set_mode(training=True)
        for count, batch, options in task.batches(order, self.batch_size, rng):
            total += count * self.step(batch, options)
            if bar is not None:
                bar.update()
        task.set_mode(training=False)
        measured = order[:MEASURED]
        figures = {"loss": total / len(X), "lr": lr, **task.measure(X[measured], Y[measured])}
        for name, figure in figures.items():
            if not math.isfinite(figure):
                raise FloatingPointError(
                    f"{name} is {figure} in epoch {self.epoch + 1}: try a lower learning rate or "
                    "clip_norm=; fastgrad.detect_anomaly() finds where it comes from"
                )
        if self.schedule is not None:
            self.schedule.step()
        for name, figure in figures.items():
            self.history.setdefault(name, []).append(figure)
        if bar is not None:
            texts = (f"{name.replace('_', ' ')} {figure:.4g}" for name, figure in figures.items())
            bar.set_postfix_str(", ".join(texts), refresh=False)

    def step(self, batch: tuple[np.ndarray, ...], options: dict[str, Any]) -> float:
        program = self.task.program if self.task.parallel is None else self.task.parallel
        if self.clip_norm is None:
            return self.optimizer.minimize(program, *batch, **options)
        self.optimizer.zero_grad()
        loss: float = program.backward(*batch, **options)
        optim.clip_grad_norm_(self.params, self.clip_norm)
        self.optimizer.step()
        return loss

    def settings(self) -> dict[str, Any]:
        """What tells this run from others; epochs and patience may change when it goes on."""
        group = self.optimizer.param_groups[0]
        moving = ("params", "lr") if "initial_lr" in group else ("params",)
        chosen = {name: setting for name, setting in group.items() if name not in moving}
        schedule = self.schedule.state_dict() if self.schedule is not None else {}
        fixed = {name: schedule[name] for name in schedule if not name.startswith("last_")}
        parallel = self.task.parallel
        shards = {} if parallel is None else {"shards": parallel.shards}
        return shards | {
            "checkpoint": "fastgrad.fit",
            "data": _digest(*self.task.data, *(self.task.held_out or ())),
            "loss": self.task.loss,
            "computation": _digest(*self.task.program._structure(*self.task.data)),
            "accuracy": self.task.hits is not None,
            "optimizer settings": f"{type(self.optimizer).__name__} {chosen}",
            "schedule settings": f"{fixed}",
            "trained parameters": len(self.params),
            "batch_size": self.batch_size,
            "clip_norm": self.clip_norm,
            "seed": self.seed,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        arrays = {name: np.array(figures) for name, figures in self.history.items()}
        running = {
            "model": self.task.module,
            "best": self.best,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "history": arrays,
            "random": random.getstate(),
        }
        save(self.settings() | running, path)

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Go on where a checkpoint was written."""
        state = load(path)
        names = ("model", "best", "optimizer", "schedule", "history", "random")
        wrong = mismatches(state, self.settings(), names)
        if wrong:
            raise ValueError(
                f"{os.fspath(path)} is the checkpoint of another run, and nothing was changed; go "
                "on with that one, or give another path:\n  " + "\n  ".join(wrong)
            )
        self.task.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        self.history = {name: figures.tolist() for name, figures in state["history"].items()}
        self.best = state["best"]
        random.setstate(state["random"])


class _Parameters(Module):
    """A program's parameters as a module, so that they have a state."""

    def __init__(self, values: list[Value]) -> None:
        self.values = values

    def parameters(self) -> list[Value]:
        return self.values


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def _bar(epoch: int, epochs: int, batches: int, progress: bool, link: str | None) -> Any:
    """A tqdm bar, or None if it is not wanted or not installed."""
    if not progress or importlib.util.find_spec("tqdm") is None:
        return None
    from tqdm import tqdm

    return tqdm(total=epochs * batches, initial=epoch * batches, unit="batch", desc=link)
