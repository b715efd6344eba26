"""Replaying: programs run on whole batches, without Python and without the GIL.

A run computes the uniform numbers once, then goes through the batch in superblocks of a few blocks
of lanes.  Each block runs forward and in reverse (phase one), leaving what its dense layers met in
its stash, but for inputs; then the adjoints of the layers' weights are added up over all stashes
and inputs, columns of weights in parallel (phase two).  With several threads large layers of inputs
are divided by neurons instead: their sums are computed ahead of the blocks, and phase two goes by
the same groups of neurons (``kernels/groups.h``).  Other parameters' adjoints are summed in
strands, one a block of the superblock, which are added in order at the end.

Layers read their weights where the tape has them, if the program's parameters lie side by side
there, and without the GIL: whoever changes data meanwhile copies all of it first (``tape.pyx``).

Invariant: lanes, blocks and strands depend on program and batch only, so the bits of every result
are the same on every run, for any number of threads.

Threads: a run owns its memory, so several threads may run one program at once.
"""

import os

import numpy

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset

from fastgrad.batch cimport Batch
from fastgrad.custom cimport Calls, call_customs
from fastgrad.fuse cimport fuse
from fastgrad.memory cimport LARGE, Memory, find_memory, lanes_of, size_for, size_of_blocks
from fastgrad.nodes cimport SLOTS_FIXED
from fastgrad.optimizer cimport Optimizer
from fastgrad.plan cimport IN_PACKED, IN_PARAMETERS, IN_UNIFORM, Dense, Plan
from fastgrad.pool cimport run_tasks, wake
from fastgrad.recording cimport Recording
from fastgrad.slots cimport Slots, copy_numbers, divide
from fastgrad.tape cimport begin_reading, check_count, end_reading
from fastgrad.words cimport Words


cdef extern from *:
    """
    #if defined(__GLIBC__)
    #include <malloc.h>
    #define give_back() malloc_trim(0)
    #else
    #define give_back()
    #endif

    /* The newest kernels that this machine can run, `most` at most: 0 base, 1 avx2, 2 avx512. */
    static const Kernels *choose_kernels(int most)
    {
    #if defined(__x86_64__) && defined(__GNUC__)
        __builtin_cpu_init();
        const int has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        const int has_avx512 = __builtin_cpu_supports("avx512f")
                               && __builtin_cpu_supports("avx512dq")
                               && __builtin_cpu_supports("avx512vl");
        if (most > 1 && has_avx2 && has_avx512) return &fastgrad_kernels_avx512;
        if (most > 0 && has_avx2) return &fastgrad_kernels_avx2;
    #endif
        return &fastgrad_kernels_base;
    }
    """
    void give_back() noexcept nogil
    const Kernels *choose_kernels(int most) noexcept


VARIANTS = ("base", "avx2", "avx512")


cdef int most_wanted() except -1:
    """The newest kernels that the user allows, as a place in VARIANTS."""
    name = os.environ.get("FASTGRAD_KERNELS", "avx512")
    if name not in VARIANTS:
        raise ValueError(
            f"FASTGRAD_KERNELS is {name!r} in the environment: expected one of "
            f"{', '.join(VARIANTS)}, or unset it for the newest that this machine can run"
        )
    return VARIANTS.index(name)


cdef const Kernels *kernels = choose_kernels(most_wanted())
kernels.check_powers()
cdef list pending = []  # what a signal handler raised during a run

cdef enum:
    MOST_THREADS = 256
    SIGNALS_AFTER = 1 << 25  # operations of lanes: some ten milliseconds

cdef int64_t MOST_NUMBERS = (1 << 60) - 1  # of an array, whose bytes NumPy counts in 64 bits


cdef struct Context:  # of a run, for its tasks
    Run run
    double *stash
    double *workspace
    int64_t workspace_doubles
    int64_t first, blocks, tail  # of the superblock; samples of its last block if that has fewer
    int size, tail_size          # of blocks, see `lanes_of`
    int filled[MOST_THREADS]     # for which size a workspace's splats are, + 1
    const int32_t *tasks
    const int32_t *task_layers
    int64_t task_count
    double *ahead                # sums of all blocks; NULL if none are computed ahead
    const int32_t *groups        # of their neurons: (layer, first neuron)
    int64_t group_count
    int64_t turned[MOST_THREADS]  # of which group a workspace's scratch has what is turned, + 1


cdef Group group_of(Context *c, int64_t group, int seat) noexcept nogil:
    """A group's neurons, for the next task of a seat."""
    cdef double *scratch = c.workspace + seat * c.workspace_doubles
    cdef bint turns = c.turned[seat] != group + 1
    c.turned[seat] = group + 1
    return Group(c.groups[2 * group + 1], scratch + lanes_of(c.size) * c.run.plan.slots, turns)


cdef void ahead_task(void *context, int64_t k, int seat) noexcept nogil:
    """Before phase one: the sums of a group of neurons for a block; tasks go group by group."""
    cdef Context *c = <Context *>context
    cdef int64_t group = k // c.blocks, block = k % c.blocks, lanes = lanes_of(c.size)
    cdef bint is_tail = block == c.blocks - 1 and c.tail
    cdef Ahead task
    task.group = group_of(c, group, seat)
    task.first = c.first + block * lanes
    task.lanes = lanes_of(c.tail_size) if is_tail else lanes
    task.samples = c.tail if is_tail else lanes
    task.sums = c.ahead + block * lanes * c.run.plan.ahead
    kernels.ahead(&c.run, c.run.plan.dense + c.groups[2 * group], &task)


cdef void block_task(void *context, int64_t k, int seat) noexcept nogil:
    """Phase one for one block."""
    cdef Context *c = <Context *>context
    cdef bint is_tail = k == c.blocks - 1 and c.tail
    cdef int size = c.tail_size if is_tail else c.size
    cdef int64_t samples = c.tail if is_tail else lanes_of(size), start = k * lanes_of(c.size)
    cdef const double *ahead = NULL
    cdef double *workspace = c.workspace + seat * c.workspace_doubles
    if c.filled[seat] != size + 1:
        kernels.splat[size](&c.run, workspace)
        c.filled[seat] = size + 1
    if c.ahead != NULL:
        ahead = c.ahead + start * c.run.plan.ahead
    kernels.block[size](&c.run, workspace, c.first + start, samples, k,
                        c.stash + start * c.run.plan.stash, ahead)


cdef void weights_task(void *context, int64_t k, int seat) noexcept nogil:
    """Phase two for some columns of the layers that share their weights, or of a group."""
    cdef Context *c = <Context *>context
    cdef const int32_t *task = c.tasks + 6 * k
    cdef const Dense *dense
    cdef Share share
    cdef int64_t full = (c.blocks - (1 if c.tail else 0)) * lanes_of(c.size), at
    share.first_column = task[2]
    share.fresh = c.first == 0 and task[4]
    share.part = k
    share.parts = c.task_count if c.first + c.blocks * lanes_of(c.size) >= c.run.samples else 0
    for at in range(task[0], task[1]):
        dense = c.run.plan.dense + c.task_layers[at]
        share.to = min(task[3], dense.inputs)
        if full:
            share.first, share.samples, share.lanes = c.first, full, lanes_of(c.size)
            share.stash = c.stash
            add_share(c, dense, &share, task[5], seat)
        if c.tail:
            share.first, share.samples = c.first + full, c.tail
            share.lanes = lanes_of(c.tail_size)
            share.stash = c.stash + full * c.run.plan.stash
            c.turned[seat] = 0  # it has other blocks' adjoints
            add_share(c, dense, &share, task[5], seat)
            c.turned[seat] = 0


cdef void add_share(
    Context *c, const Dense *dense, Share *share, int64_t group, int seat
) noexcept nogil:
    if group >= 0:
        share.group = group_of(c, group, seat)
        kernels.group_weights(&c.run, dense, share)
    else:
        kernels.weights(&c.run, dense, share)
    share.fresh = share.parts = 0


class NoIndex(IndexError):
    """An index in a program names nothing: (sample, its column or None)."""


cdef class Replay:
    """A recording, ready to run.

    Parameters
    ----------
    recording : Recording
    """

    def __init__(self, Recording recording):
        self.recording = recording
        self.forward_idle, self.gradient_idle = [], []

    cdef tuple run(
        self, Batch batch, Slots parameters, places, theta, str mode, int threads,
        Optimizer optimizer, order
    ):
        """Run forward, and in reverse if gradients are wanted.

        Parameters
        ----------
        batch : Batch
            The arguments; of one sample at least.
        parameters : Slots
            Of the whole program.
        places : ndarray of int64 or None
            Which of them are this recording's; None for the first ones.
        theta : ndarray or None
            Numbers to use instead of their data.
        mode : {"forward", "add", "return", "descend"}
            What to do with the mean's derivatives: there are none, add them to the parameters'
            grads, return them, let the optimizer take a step by them.
        threads : int
            At most so many.
        optimizer, order
            For "descend"; order is an ndarray of int64 or None, as for `Optimizer.descend`.

        Returns
        -------
        ndarray, shape (samples, outputs), or float
            The outputs if there are no derivatives, else their mean.
        ndarray or None, shape (parameters,)

        Raises
        ------
        NoIndex
            If an index in the program names nothing.
        """
        cdef bint gradient = mode != "forward"
        cdef Plan plan = self.plan(gradient)
        cdef list idle = self.gradient_idle if gradient else self.forward_idle
        cdef Memory memory = find_memory(plan, idle, batch.samples, min(threads, MOST_THREADS))
        cdef int64_t[::1] own
        cdef const int64_t *at = NULL
        cdef double *uniform = memory.uniform + SLOTS_FIXED
        cdef const double *values = NULL  # the tape's, while they are read
        cdef const double *weights
        cdef int64_t count = self.recording.parameters, moved = 0
        cdef const double[::1] given
        cdef double[::1] numbers
        cdef double[:, ::1] table
        cdef double *outputs
        cdef double mean = 0.0
        cdef int64_t k
        if places is not None and count:
            own = places
            at = &own[0]
        if gradient:
            result = None
            outputs = memory.room_for(batch.samples)
        else:
            check_count(batch.samples, "the samples of a run", MOST_NUMBERS // plan.c.output_count)
            result = numpy.empty((batch.samples, plan.c.output_count))
            table = result
            outputs = &table[0, 0]
        wake(<int>min(<int64_t>threads, memory.blocks))  # while parameters are copied
        weights = uniform
        try:
            if theta is not None and count:
                given = theta
                copy_places(uniform, &given[0], count, at)
            elif at == NULL and parameters.are_together():
                values = begin_reading()
                moved = count if mode == "descend" else 0
                weights = values + parameters.first
                for k in range(0, plan.copied.size, 2):
                    copy_numbers(uniform + plan.copied.at[k], weights + plan.copied.at[k],
                                 plan.copied.at[k + 1], threads)
            else:
                parameters.read(uniform, count, at, threads)
            replay(
                plan, memory, weights, moved, batch, outputs, threads,
                Calls(self.recording.customs),
            )
        finally:
            if values != NULL:
                end_reading(values)
        grads = None
        if gradient:
            for k in range(batch.samples):  # from the left, as Python's sum
                mean += outputs[k]
            result = mean / batch.samples
        if mode == "add":
            parameters.add(uniform + plan.uniforms, count, at, batch.samples)
        elif mode == "descend":
            if order is not None:
                own = order
                at = &own[0]
            else:
                at = NULL
            optimizer.descend(uniform + plan.uniforms, at, batch.samples, threads)
        elif gradient:
            grads = numpy.zeros(len(parameters.values))
            if count:
                numbers = grads
                if at == NULL:
                    divide(&numbers[0], uniform + plan.uniforms, count, batch.samples)
                else:
                    for k in range(count):
                        numbers[at[k]] = uniform[plan.uniforms + k] / batch.samples
        idle.append(memory)
        return result, grads

    cdef Plan plan(self, bint gradient):
        cdef Plan plan = self.gradient_plan if gradient else self.forward_plan
        if plan is not None:
            return plan
        plan = Plan(fuse(self.recording), gradient)
        if gradient:
            self.gradient_plan = plan
        else:
            self.forward_plan = plan
        if self.recording.parameters > LARGE:
            give_back()  # what tracing took, and would else stay taken beside what runs take
        return plan

    cdef double cost(self, bint gradient) except -1.0:
        """Guess what one sample costs, in nanoseconds, for the choice of threads."""
        cdef Plan plan = self.plan(gradient)
        return (3 if gradient else 1) * (0.06 * plan.products() + 0.5 * plan.places)

    def describe(self, bint gradient, int64_t samples):
        """Entries recorded, operations of a sample, lanes, bytes of a block's workspace."""
        cdef Plan plan = self.plan(gradient)
        cdef int size = size_of_blocks(plan, samples)
        return (
            self.recording.size - self.recording.inputs,
            plan.places,
            lanes_of(size),
            (plan.c.slots + plan.c.scratch + plan.c.stash) * lanes_of(size) * sizeof(double),
        )


def variant():
    """Which kernels run programs here: one of VARIANTS."""
    return kernels.name.decode()


cdef const Sweeps *sweeps_for(int64_t directions) noexcept nogil:
    """The sweeps of ``linear.pyx`` with as many lanes as so many directions can use."""
    return &kernels.sweeps[0 if directions == 1 else 1 if directions <= 4 else 2]


cdef void copy_places(
    double *to, const double *numbers, int64_t count, const int64_t *places
) noexcept:
    cdef int64_t k
    if places == NULL:
        memcpy(to, numbers, count * sizeof(double))
    else:
        for k in range(count):
            to[k] = numbers[places[k]]


cdef int replay(
    Plan plan, Memory memory, const double *weights, int64_t moved, Batch batch, double *outputs,
    int threads, Calls calls
) except -1:
    """Run the phases.

    `weights` are all parameters, of which some are among the uniforms too; a step will write
    `moved` of them.
    """
    cdef Context c
    cdef int interrupted
    memset(&c, 0, sizeof(Context))
    c.run.plan = &plan.c
    c.run.columns, c.run.strides = batch.starts, batch.strides
    c.run.samples, c.run.outputs = batch.samples, outputs
    c.run.gradient, c.run.bad_sample = plan.gradient, -1
    c.run.custom, c.run.customs = call_customs, <void *>calls
    c.size = memory.size
    c.run.weights[IN_PARAMETERS] = weights
    c.run.threads, c.run.moved = threads, moved if threads > 1 else 0
    c.groups, c.group_count = plan.groups.at, plan.groups.size // 2
    if memory.ahead != NULL and threads > 1 and inputs_together(&c):
        c.ahead = memory.ahead
    set_uniforms(plan, memory, &c)
    if calls.failed:
        raise calls.error
    with nogil:
        interrupted = superblocks(plan, memory, &c, batch.samples, threads, calls)
    if interrupted:
        raise pending.pop()
    if calls.failed:
        raise calls.error
    if c.run.bad_sample >= 0:
        raise NoIndex(int(c.run.bad_sample), column_of(plan, c.run.bad_place))
    if plan.gradient:
        get_gradients(plan, memory, &c)
        if calls.failed:
            raise calls.error
    return 0


cdef bint inputs_together(const Context *c) noexcept:
    """Are the inputs of each layer that may be computed ahead side by side in the batch?"""
    cdef const Dense *dense
    cdef int64_t group
    for group in range(c.group_count):
        dense = c.run.plan.dense + c.groups[2 * group]
        if side_by_side(&c.run, dense.columns, dense.inputs) < dense.inputs:
            return False
    return True


cdef object column_of(Plan plan, int32_t place):
    """The input column that the index of the choice at this place of the code is, if it is one."""
    cdef int64_t k
    for k in range(0, plan.chosen.size, 2):
        if plan.chosen.at[k] == place:
            return plan.chosen.at[k + 1]
    return None


cdef void set_uniforms(Plan plan, Memory memory, Context *c) noexcept:
    """What is computed from the parameters, which are there; adjoints are 0 or begun later."""
    cdef double *uniform = memory.uniform + SLOTS_FIXED
    cdef const Words *tasks = &plan.group_tasks if c.ahead != NULL else &plan.tasks
    cdef int64_t k
    kernels.forward_one(&c.run, plan.uniform_forward.words.at, memory.uniform)
    for k in range(plan.packed.size):
        memory.packed[k] = uniform[plan.packed.at[k]]
    if plan.gradient and memory.size == 0:  # on one lane there is no phase two
        memset(uniform + plan.uniforms, 0, plan.uniforms * sizeof(double))
        memset(memory.packed_adj, 0, plan.packed.size * sizeof(double))
    elif plan.gradient:
        for k in range(0, plan.cleared.size, 2):
            memset(uniform + plan.uniforms + plan.cleared.at[k], 0,
                   plan.cleared.at[k + 1] * sizeof(double))
    if plan.gradient:
        memset(memory.sums, 0, memory.blocks * plan.c.sums * sizeof(double))
    c.run.uniform = uniform
    c.run.weights[IN_UNIFORM], c.run.weights[IN_PACKED] = uniform, memory.packed
    c.run.weights_adj[IN_PARAMETERS] = c.run.weights_adj[IN_UNIFORM] = uniform + plan.uniforms
    c.run.weights_adj[IN_PACKED] = memory.packed_adj
    c.run.sums = memory.sums
    c.stash, c.workspace = memory.stash, memory.workspace
    c.workspace_doubles = memory.workspace_doubles
    c.tasks, c.task_count, c.task_layers = tasks.at, tasks.size // 6, plan.task_layers.at


cdef bint superblocks(
    Plan plan, Memory memory, Context *c, int64_t samples, int threads, Calls calls
) noexcept nogil:
    """Go through the batch; returns whether a signal (Ctrl-C) has come in between."""
    cdef int64_t lanes = lanes_of(memory.size), left, done = 0
    cdef int64_t operations = plan.places + plan.products()
    cdef int seats = min(threads, memory.workspaces)
    while c.first < samples and c.run.bad_sample < 0 and not calls.failed:
        left = samples - c.first
        c.blocks = min(memory.blocks, (left + lanes - 1) // lanes)
        c.tail = left % lanes if left < c.blocks * lanes else 0
        # One lane would add to the weights' adjoints at once, and phase two begin them anew.
        c.tail_size = max(size_for(c.tail), 1 if memory.size else 0)
        if c.ahead != NULL:
            memset(c.turned, 0, sizeof(c.turned))
            run_tasks(ahead_task, c, c.group_count * c.blocks, seats)
            memset(c.turned, 0, sizeof(c.turned))
        run_tasks(block_task, c, c.blocks, threads)
        if c.run.gradient and lanes > 1:
            run_tasks(weights_task, c, c.task_count, threads if c.ahead == NULL else seats)
        c.first += c.blocks * lanes
        done += c.blocks * lanes * operations
        if done > SIGNALS_AFTER and c.first < samples:
            done = 0
            if signal_came():
                return True
    return False


cdef bint signal_came() noexcept with gil:
    try:
        PyErr_CheckSignals()
    except BaseException as error:
        pending.append(error)
        return True
    return False


cdef void get_gradients(Plan plan, Memory memory, Context *c) noexcept:
    """Bring together what phases and strands have added up, and sweep what is uniform."""
    cdef double *adjoints = memory.uniform + SLOTS_FIXED + plan.uniforms
    cdef int64_t k, strand
    for strand in range(memory.blocks):
        for k in range(plan.c.sums):
            adjoints[plan.sum_uniforms.at[k]] += memory.sums[strand * plan.c.sums + k]
    for k in range(plan.packed.size):
        adjoints[plan.packed.at[k]] += memory.packed_adj[k]
    kernels.reverse_one(&c.run, plan.uniform_reverse.words.at, memory.uniform)
