"""Data-parallel training: a program's gradient, shard by shard, on a Dask cluster.

`DataParallel` lays the samples out over a cluster once.  A step then sends the parameters to the
workers, each shard gives the gradient of its samples times its share of them, and the shards'
gradients are added up on the workers, in a tree that depends on the number of shards alone
(``shards.py``).  dask.distributed does all the rest: which worker computes what, and what to do
again, on which other one, when a worker is lost.

Invariant: who computed what, how often and in what order does not show in a bit of the result.

Limitations: all that a step needs can be made again while the scheduler lives, and nothing once it
is lost: `fastgrad.fit` with a checkpoint goes on then.
"""

import contextlib
import uuid
import weakref
from concurrent.futures import CancelledError
from typing import Any, Self, cast

import numpy as np

try:
    import dask
    import dask.array
    from dask.delayed import delayed
    from distributed import Client, Worker, WorkerPlugin, get_worker
except ImportError:
    raise ImportError('fastgrad.distributed needs Dask: pip install "fastgrad[dask]"') from None

from fastgrad.batch import numbers_of
from fastgrad.engine import Value
from fastgrad.optimizer import Optimizer
from fastgrad.program import Program
from fastgrad.shards import (
    Step,
    add_up,
    check_arrays,
    ends_of,
    in_tree,
    part_gradient,
    record,
    step_of,
)
from fastgrad.signature import order_of
from fastgrad.slots import Slots


class DataParallel:
    """A program whose samples lie on the workers of a Dask cluster.

    Parameters
    ----------
    program : Program
        With one number a sample.
    client : distributed.Client
        Not an asynchronous one.

    Raises
    ------
    TypeError
        If they are something else.
    ImportError
        If Dask is not there, on import of `fastgrad.distributed`.

    Notes
    -----
    `optim.Optimizer.minimize` takes it in place of a program.  On the workers a program runs with
    one thread: a worker of several threads computes as many shards at a time. They need fastgrad
    of the same version; the bits are the same on machines with the same C library.

    A worker that is lost is Dask's to deal with: its shards are made again on others, the step goes
    on, and the numbers are the same. What a worker raises is raised here, with a note that tells
    the shard; so is Dask's KilledWorker if a shard has taken several workers with it
    (``distributed.scheduler.allowed-failures``).

    It is a context manager: `close` at its end takes shards and program off the workers, which
    also happens when nothing refers to it any more.

    Threads: steps may be made from several threads; `shard` and `close` must not be called
    meanwhile.

    Examples
    --------
    >>> import fastgrad
    >>> from distributed import Client
    >>> from fastgrad.distributed import DataParallel
    >>> w = fastgrad.Value(3.0)
    >>> square = fastgrad.compile(lambda x: (w * x) ** 2)
    >>> sgd = fastgrad.optim.SGD([w], lr=0.01)
    >>> with (
    ...     Client(n_workers=1, processes=False, dashboard_address=":0") as client,
    ...     DataParallel(square, client) as parallel,
    ... ):
    ...     print(parallel.shard([1.0, 2.0, 3.0, 4.0], shards=2).value_and_grad())
    ...     loss = sgd.minimize(parallel)
    (67.5, array([45.]))
    >>> loss, w
    (67.5, Value(data=2.55, grad=0))
    """

    def __init__(self, program: Program, client: Client) -> None:
        if not isinstance(program, Program):
            raise TypeError(
                f"DataParallel needs a compiled program, got {type(program).__name__} "
                f"{program!r:.60}: fastgrad.compile makes one of a function"
            )
        if not isinstance(client, Client) or client.asynchronous:
            raise TypeError(
                "client must be a distributed.Client that is not asynchronous, got "
                f"{type(client).__name__} {client!r:.60}"
            )
        self.program, self.client = program, client
        self._name = f"fastgrad-{uuid.uuid4().hex}"
        self._ends = np.empty(0, dtype=np.int64)
        self._shards: list[Any] = []
        self._slots = Slots([])
        self._steered: tuple[tuple[Value, ...], np.ndarray | None] = (), None
        self._remove: weakref.finalize[..., Self] | None = None

    # ---- where the samples lie

    def shard(self, *arrays: Any, shards: int | None = None) -> Self:
        """Lay the samples out over the cluster, in place of those that were there.

        Parameters
        ----------
        *arrays : array_like or dask.array.Array, shape (n, ...)
            What the program takes. What is no Dask array is sent from here, and kept by the
            scheduler, for the case that a worker is lost. Dask arrays are computed where Dask
            computes them and never come here, but for the first sample.
        shards : int, optional
            From 1 to n: stretches of samples, whose lengths differ by 1 at most. The bits of the
            gradient depend on it. If not given, the chunks of the first Dask array, or as many as
            the cluster has threads now.

        Returns
        -------
        DataParallel
            This one.

        Raises
        ------
        TypeError, ValueError
            If the arrays differ in length, are none or empty, hold no real numbers, or have chunks
            of unknown sizes; the number of shards is out of range; or the cluster has no workers
            and `shards` is not given. Else as `Program.backward`.

        Notes
        -----
        The program is recorded for such samples now, and sent to every worker; workers that come
        later get it when they start.
        """
        given, _, names = self.program._call.bind(arrays, {})
        arrays = tuple(_read(array, name) for name, array in zip(names, given))
        check_arrays(names, arrays)
        chunked = [array for array in arrays if isinstance(array, dask.array.Array)]
        threads = sum(self.client.nthreads().values())
        if shards is not None:
            ends = ends_of(len(arrays[0]), shards)
        elif chunked:
            ends = np.cumsum([size for size in chunked[0].chunks[0] if size])
        elif threads:
            ends = ends_of(len(arrays[0]), min(threads, len(arrays[0])))
        else:
            raise ValueError(
                "the cluster has no workers yet: give shards=, or call client.wait_for_workers() "
                "before"
            )
        futures = self._lay_chunked(arrays, ends) if chunked else self._lay(arrays, ends)
        record(self.program, self.client.submit(_first, futures[0], pure=False).result())
        self.client.register_plugin(_Shipped(self.program), self._name)
        if self._remove is None:
            self._remove = weakref.finalize(self, _remove_later, self.client, self._name)
            self._remove.atexit = False  # the cluster may have gone
        self._ends, self._shards = ends, futures
        self._slots, self._steered = Slots(self.program.parameters), ((), None)
        return self

    def _lay(self, arrays: tuple[Any, ...], ends: np.ndarray) -> list[Any]:
        # The warning would be right if this were done at each step.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": 1 << 60}):
            return [
                self.client.submit(_shard, *(array[start:end] for array in arrays), pure=False)
                for start, end in zip([0, *ends], ends)
            ]

    def _lay_chunked(self, arrays: tuple[Any, ...], ends: np.ndarray) -> list[Any]:
        sizes = tuple(np.diff(ends, prepend=0).tolist())
        columns = []
        for array in arrays:
            if not isinstance(array, dask.array.Array):
                array = dask.array.from_array(array, chunks=(sizes, *array.shape[1:]))
            whole = dict.fromkeys(range(1, array.ndim), -1)
            columns.append(array.rechunk({0: sizes} | whole).to_delayed().ravel())
        gather = delayed(_shard, pure=False)
        futures: list[Any] = self.client.compute([gather(*blocks) for blocks in zip(*columns)])
        return futures

    def close(self) -> None:
        """Take the shards and the program off the workers."""
        self._shards, self._ends = [], np.empty(0, dtype=np.int64)
        if self._remove is None:
            return
        self._remove.detach()
        self._remove = None
        if self.client.status == "running":
            # Of a worker that is about to die, or has taken it off itself as it retires.
            with contextlib.suppress(OSError, KeyError):
                self.client.unregister_worker_plugin(self._name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: Any) -> None:
        self.close()

    def __len__(self) -> int:
        """Count the samples."""
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def shards(self) -> int:
        """int: how many there are."""
        return len(self._shards)

    def __repr__(self) -> str:
        return (
            f"DataParallel {self.program.__name__}: {len(self._slots.values)} parameters, "
            f"{len(self)} samples in {self.shards} shards, dashboard {self.client.dashboard_link}"
        )

    # ---- steps

    def value_and_grad(
        self, rows: Any = None, *, theta: Any = None, seed: int | None = None
    ) -> tuple[float, np.ndarray]:
        """Run forward and in reverse on the workers, touching no grad.

        Parameters
        ----------
        rows : array_like of int, shape (m,), optional
            Which of the samples, from 0 to n - 1; all if not given.
        theta : array_like, shape (P,), optional
            Numbers to use instead of the parameters' data, in the order of `Program.parameters`.
        seed : int, optional
            At least 0, of what `nn.Dropout` draws. If not given it is drawn from Python's
            ``random``, from which Dask's threads in this process may draw too.

        Returns
        -------
        float
            The mean of the program's output over the samples.
        ndarray, shape (P,)
            Its gradient.

        Raises
        ------
        TypeError, ValueError
            If there are no shards, or rows or theta are not as described.
        Exception
            Whatever the program raises on a worker.
        RuntimeError
            If workers have been lost in this step again and again.
        """
        if not self._shards:
            raise ValueError("there are no samples: call shard() before")
        step = step_of(self.program, self._slots, self._ends, rows, theta, seed)
        most = int(dask.config.get("distributed.scheduler.allowed-failures"))
        for _ in range(1 + most):
            total = self._total(step)
            if total is not None:
                return float(total[0]), total[1:]
        raise RuntimeError(
            f"workers were lost in a step, {1 + most} times: do they have enough memory? "
            "distributed.scheduler.allowed-failures says how often to try again"
        )

    def _total(self, step: Step) -> np.ndarray | None:
        """The sum of the parts' means and gradients; None if a lost worker alone had the step.

        Dask cannot make again what was sent; we can.
        """
        # Not in the tasks, as client and scheduler keep the last 1000 messages; and not by
        # broadcast=True, which never ends if a worker is lost in it.
        try:
            (sent,) = self.client.scatter([step], hash=False)
        except (OSError, KeyError):  # of a connection, and of a worker that has just been removed
            if self.client.status != "running":
                raise
            self.client.wait_for_workers(1)
            return None
        gradient, add = (delayed(task, pure=False) for task in (_gradient, add_up))
        parts = [
            gradient(self._name, self._shards[part.shard], sent, k)
            for k, part in enumerate(step.parts)
        ]
        future = self.client.compute(in_tree(parts, add), optimize_graph=False)
        try:
            total: np.ndarray = future.result()
        except CancelledError:
            if self.client.status != "running" or any(one.cancelled() for one in self._shards):
                raise  # there is no cluster any more, or it was restarted
            return None
        finally:  # now, as the client keeps what was raised, which keeps all that is here
            future.release()
            sent.release()
        return total

    def backward(self, rows: Any = None, *, seed: int | None = None) -> float:
        """Run forward and in reverse on the workers, and add the gradient to the parameters' grads.

        Parameters
        ----------
        rows : array_like of int, shape (m,), optional
            Which of the samples, from 0 to n - 1; all if not given.
        seed : int, optional
            As for `value_and_grad`.

        Returns
        -------
        float
            The mean of the program's output over the samples.

        Raises
        ------
        Exception
            As `value_and_grad`. No grad has been touched then.
        """
        mean, gradient = self.value_and_grad(rows, seed=seed)
        if len(gradient):
            self._slots.add_grads(gradient)
        return mean

    def _descend(
        self,
        optimizer: Optimizer,
        steered: tuple[Value, ...],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> float:
        """Run forward and in reverse for `Optimizer.minimize`."""
        known, order = self._steered
        if known is not steered:
            order = order_of(self._slots.values, steered, self.program.__name__)
            self._steered = steered, order
        mean, gradient = self.value_and_grad(*args, **kwargs)
        optimizer._step_by(gradient, order)
        return mean


def _read(array: Any, name: str) -> Any:
    """Numbers; those of a Dask array stay where they are."""
    if not isinstance(array, dask.array.Array):
        return numbers_of(array, name)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be an array of numbers, got {array.dtype}")
    if np.isnan(sum(array.shape)):
        raise ValueError(
            f"{name} has chunks of unknown sizes: call its compute_chunk_sizes() before"
        )
    return array


# ---- tasks, by the names that the dashboard shows


class _Shipped(WorkerPlugin):
    """A program on a worker."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def setup(self, worker: Worker) -> None:
        self.program.threads = 1


def _shard(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.ascontiguousarray(array, dtype=np.float64) for array in arrays)


def _first(arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    return tuple(array[:1] for array in arrays)


def _gradient(name: str, arrays: tuple[np.ndarray, ...], step: Step, k: int) -> np.ndarray:
    program = cast(_Shipped, get_worker().plugins[name]).program
    theta = np.require(step.theta, np.float64, ["C", "ALIGNED"])  # what a message holds need not be
    return part_gradient(program, arrays, step._replace(theta=theta), k)


def _remove_later(client: Any, name: str) -> None:
    """Take a program off the workers; from a finalizer, which must not wait."""
    if client.status == "running":
        client.loop.add_callback(client.scheduler.unregister_worker_plugin, name=name)
