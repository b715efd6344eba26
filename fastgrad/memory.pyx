"""The memory of a run: what it writes to, kept for the next run of the same plan.

Here is decided how many lanes a block has, and how many blocks a superblock.

Invariant: that depends on program and batch only, not on threads or machine.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from fastgrad.nodes cimport SLOTS_FIXED
from fastgrad.plan cimport GROUP, Plan


cdef enum:
    LINE = 8                   # doubles of a cache line
    WORKSPACE_BYTES = 1 << 18  # of a block: half of a usual second-level cache
    STASH_BYTES = 3 << 19      # of a superblock
    LAYERED = 16               # products of layers a slot, from which a program is one of layers
    STRANDS = 8                # blocks of a superblock, at most
    LARGEST = 5                # size of a block: see `lanes_of`


cdef class Memory:
    """See the head of this file."""

    def __dealloc__(self):
        free(self.raw)
        free(self.outputs)

    cdef double *room_for(self, int64_t samples) except NULL:
        """Where the outputs of a run go that only their mean is wanted of."""
        if samples > self.outputs_room:
            free(self.outputs)
            self.outputs_room = 0
            self.outputs = <double *>malloc(samples * sizeof(double))
            if self.outputs == NULL:
                raise MemoryError(f"no memory for the outputs of {samples} samples")
            self.outputs_room = samples
        return self.outputs


cdef Memory new_memory(Plan plan, int size, int64_t blocks, int workspaces):
    cdef Memory memory = Memory()
    cdef int64_t uniform = lines(SLOTS_FIXED + 2 * <int64_t>plan.uniforms)
    cdef int64_t packed = lines(plan.packed.size)
    cdef int64_t sums = lines(blocks * plan.c.sums)
    cdef int64_t stash = lines(blocks * lanes_of(size) * plan.c.stash)
    cdef int64_t ahead = lines(blocks * lanes_of(size) * plan.c.ahead)
    cdef int64_t scratch = lanes_of(size) * plan.c.scratch
    cdef double *at
    # A scratch has room for the weights of as many neurons as a block has lanes: of a group, if
    # there are any; then also for the adjoints of its sums over all lanes.
    if workspaces < 2 or lanes_of(size) < GROUP:
        ahead = 0
    if ahead:
        scratch = max(scratch, GROUP * (blocks * lanes_of(size) + 1))
    memory.size, memory.blocks, memory.workspaces = size, blocks, workspaces
    # A line more, so that workspaces do not begin in the same set of the cache.
    memory.workspace_doubles = lines(lanes_of(size) * plan.c.slots + scratch) + LINE
    memory.bytes = sizeof(double) * (
        uniform + 2 * packed + sums + stash + ahead + workspaces * memory.workspace_doubles
    )
    memory.raw = <char *>calloc(memory.bytes + LINE * sizeof(double), 1)
    if memory.raw == NULL:
        raise MemoryError(f"no memory for a run of a program: {memory.bytes} bytes")
    at = <double *>((<size_t>memory.raw + 63) & ~<size_t>63)
    memory.uniform = at
    memory.packed = memory.uniform + uniform
    memory.packed_adj = memory.packed + packed
    memory.sums = memory.packed_adj + packed
    memory.stash = memory.sums + sums
    memory.ahead = memory.stash + stash if ahead else NULL
    memory.workspace = memory.stash + stash + ahead
    memcpy(memory.uniform + SLOTS_FIXED + plan.parameters, plan.constants,
           plan.constant_count * sizeof(double))  # constants stay
    return memory


cdef inline int64_t lines(int64_t doubles) noexcept nogil:
    return (doubles + LINE - 1) // LINE * LINE


cdef int size_for(int64_t samples) noexcept nogil:
    cdef int size = 0
    while size < LARGEST and lanes_of(size) < samples:
        size += 1
    return size


cdef int size_of_blocks(Plan plan, int64_t samples) noexcept:
    """As many lanes as the batch has and a cache holds the slots of, but 8 at least."""
    cdef int size = size_for(samples)
    cdef int64_t bytes = sizeof(double) * plan.c.slots
    cdef bint layered = plan.products() > LAYERED * plan.c.slots
    if layered:
        bytes //= LAYERED  # layers read their slots a few times only, but each weight once a block
    if size == LARGEST and not (layered and plan.parameters > LARGE):
        size -= 1  # more blocks, for threads to share
    while size > 2 and bytes * lanes_of(size) > WORKSPACE_BYTES:
        size -= 1
    return size


cdef Memory find_memory(Plan plan, list idle, int64_t samples, int threads):
    """Memory of an earlier run, or more."""
    cdef int size = size_of_blocks(plan, samples)
    cdef int64_t blocks = (samples + lanes_of(size) - 1) // lanes_of(size)
    cdef int64_t bytes = lanes_of(size) * plan.c.stash * <int64_t>sizeof(double)
    cdef Memory memory
    cdef int64_t most = max(2, min(<int64_t>STRANDS, STASH_BYTES // max(bytes, 1)))
    cdef int64_t superblocks = (blocks + most - 1) // most
    blocks = (blocks + superblocks - 1) // superblocks  # about as many in each
    threads = <int>min(<int64_t>threads, blocks)
    while idle:
        memory = idle.pop()
        if memory.size == size and memory.blocks == blocks and memory.workspaces >= threads:
            return memory
    return new_memory(plan, size, blocks, threads)
