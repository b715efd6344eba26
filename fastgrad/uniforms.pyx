"""What a run does once for all its samples: planned here.

Uniform numbers are computed on one lane, a slot each and one for its adjoint, by code streams of
their own.  The adjoints of layers' weights are added up after the blocks, in tasks.

Invariant: no two tasks touch the same number.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memchr

from fastgrad.nodes cimport (
    ACTIVE, GONE, OP_END, OP_PARAMETER, SLOT_TRASH, SLOTS_FIXED, VARIES, Fused, operands,
)
from fastgrad.order cimport is_elementary, which_wanted
from fastgrad.plan cimport GROUP, IN_PACKED, IN_PARAMETERS, Dense
from fastgrad.tape cimport OP_CUSTOM, OP_FIRST_POOLED, OP_LEAF
from fastgrad.words cimport Stream, Words, begin, end, push, zeros


cdef enum:
    TASK_WEIGHTS = 1 << 12  # of one task, if that is LEAST columns
    COLUMNS = 16            # of weights that a kernel takes at once, at most
    LEAST = 2 * COLUMNS     # its x are turned together


cdef int plan_uniforms(
    Fused graph, bint gradient, Stream *forward, Stream *reverse
) except -1:
    """Code for what is computed once a run, on one lane; a slot a uniform, and one an adjoint."""
    cdef int32_t node
    for node in range(graph.size):
        if is_computed(graph, node):
            uniform_node(graph, node, forward, False)
    end(forward, OP_END * 4)
    if gradient:
        for node in range(graph.size - 1, -1, -1):
            if is_computed(graph, node) and graph.marks[node] & ACTIVE:
                uniform_node(graph, node, reverse, True)
        end(reverse, OP_END * 4)
    return 0


cdef inline bint is_computed(Fused graph, int32_t node) noexcept:
    return graph.op[node] != OP_LEAF and graph.op[node] < OP_PARAMETER and not (
        graph.marks[node] & (VARIES | GONE)
    )


cdef int uniform_node(Fused graph, int32_t node, Stream *stream, bint back) except -1:
    cdef const int32_t *words = NULL
    cdef int32_t count = 0, k, z = uniform_slot(graph, node), which, y
    cdef int op = graph.op[node]
    operands(graph, node, &words, &count)
    if is_elementary(graph, node):
        which = which_wanted(graph, node) if back else 0
        y = graph.b[node] if op < OP_FIRST_POOLED else words[0]
        begin(stream, 4 * op + which if back else op)
        push(&stream.words, z)
        push(&stream.words, uniform_slot(graph, words[0]))
        push(&stream.words, uniform_slot(graph, y))
        if back:
            push(&stream.words, z + graph.uniforms)
            push_adjoint(graph, stream, words[0])
            push_adjoint(graph, stream, y)
        return 0
    begin(stream, 4 * op if back else op)
    if op == OP_CUSTOM:
        return uniform_custom(graph, node, stream, back)
    # a DOT
    push(&stream.words, z + graph.uniforms if back else z)
    if back:
        push(&stream.words, graph.b[node])
        push_adjoint(graph, stream, words[0])
    else:
        push(&stream.words, uniform_slot(graph, words[0]))
        push(&stream.words, graph.b[node])
    for k in range(1, count, 2):
        push(&stream.words, uniform_slot(graph, words[k]))
        push(&stream.words, uniform_slot(graph, words[k + 1]))
        if back:
            push_adjoint(graph, stream, words[k])
            push_adjoint(graph, stream, words[k + 1])
    return 0


cdef int uniform_custom(Fused graph, int32_t node, Stream *stream, bint back) except -1:
    cdef const int32_t *words = NULL
    cdef int32_t count = 0, k, z = uniform_slot(graph, node)
    operands(graph, node, &words, &count)
    if not back:
        push(&stream.words, z)
    push(&stream.words, graph.pool.at[graph.a[node]])
    if back:
        push(&stream.words, z + graph.uniforms)
    push(&stream.words, count)
    for k in range(count):
        push(&stream.words, uniform_slot(graph, words[k]))
    if back:
        for k in range(count):
            push_adjoint(graph, stream, words[k])
    return 0


cdef inline int32_t uniform_slot(Fused graph, int32_t node) noexcept:
    return SLOTS_FIXED + graph.uniform[node]


cdef int push_adjoint(Fused graph, Stream *stream, int32_t node) except -1:
    """From and to are the same: uniforms' adjoints are 0 before a run."""
    cdef int32_t slot = SLOT_TRASH
    if graph.marks[node] & ACTIVE:
        slot = uniform_slot(graph, node) + graph.uniforms
    push(&stream.words, slot)
    return push(&stream.words, slot)


# ---- weights


cdef int divide_weights(
    const Dense *layers, int32_t count, int64_t uniforms, Words *tasks, Words *group_tasks,
    Words *task_layers, Words *cleared
) except -1:
    """Divide the adjoints of the layers' weights into tasks that touch no number in common.

    `group_tasks` are the same work, if layers that are computed ahead are divided by groups.
    """
    cdef int32_t k, column, columns, inputs, group, first_group
    cdef const Dense *dense
    shapes = []
    for k in range(count):
        dense = layers + k
        if dense.wants_weights:
            packed = dense.space == IN_PACKED
            shapes.append((packed, dense.first, dense.row, dense.neurons, dense.inputs, k))
    shapes.sort()
    families, last, space = [], -1, -1
    for shape in shapes:
        packed, first, apart, neurons, inputs, _ = shape
        if packed != space or first > last:
            families.append([])
            last = -1
        space = packed
        families[len(families) - 1].append(shape)
        last = max(last, first + (neurons - 1) * apart + inputs - 1)
    begun = []  # runs of uniforms whose adjoints begin in the first task that writes them
    for family in families:
        packed, first, apart, neurons, inputs, k = family[0]  # k: the layer
        start = task_layers.size
        for shape in family:
            push(task_layers, shape[5])
        alike = all(shape[:5] == family[0][:5] for shape in family)
        # Columns can be divided where the layers have the same weights altogether.
        columns = max(shape[4] for shape in family)
        if alike:
            columns = max(LEAST, TASK_WEIGHTS // (COLUMNS * neurons) * COLUMNS)
            if not packed:
                begun += [(first + row * apart, inputs) for row in range(neurons)]
        family_tasks = [
            (start, task_layers.size, column, column + columns, alike, -1)
            for column in range(0, max(shape[4] for shape in family), columns)
        ]
        push_tasks(tasks, family_tasks)
        if len(family) == 1 and layers[k].z_at >= 0:
            parts = (inputs * GROUP + TASK_WEIGHTS - 1) // TASK_WEIGHTS
            columns = (inputs + parts * COLUMNS - 1) // (parts * COLUMNS) * COLUMNS
            first_group = <int32_t>(layers[k].z_at // GROUP)
            family_tasks = [
                (start, task_layers.size, column, column + columns, alike, group)
                for group in range(first_group, first_group + (neurons + GROUP - 1) // GROUP)
                for column in range(0, inputs, columns)
            ]
        push_tasks(group_tasks, family_tasks)
    return push_others(begun, uniforms, cleared)


cdef int push_tasks(Words *tasks, list some) except -1:
    for task in some:
        for number in task:
            push(tasks, number)
    return 0


cdef int find_copied(
    Fused graph, const Dense *layers, const Words *packed, Words *copied
) except -1:
    """Find the parameters that are used as more than weights which are read where they are."""
    cdef uint8_t *used = <uint8_t *>zeros(graph.uniforms, 1)
    cdef int32_t node, k, row
    cdef int64_t first
    try:
        for node in range(graph.size):
            if graph.op[node] == OP_PARAMETER and graph.uses[node]:
                used[graph.a[node]] = 1
        for k in range(packed.size):
            used[packed.at[k]] = 1
        rows = set()
        for k in range(graph.layer_count):
            if layers[k].space == IN_PARAMETERS:
                for row in range(layers[k].neurons):
                    first = layers[k].first + row * layers[k].row
                    if memchr(used + first, 1, layers[k].inputs) == NULL:
                        rows.add((first, layers[k].inputs))
    finally:
        free(used)
    return push_others(sorted(rows), graph.parameters, copied)


cdef int push_others(list runs, int64_t total, Words *others) except -1:
    """Push (first, count) of what is in none of the runs, which are in order, from 0 to `total`."""
    at = 0
    for first, count in [*runs, (total, 0)]:
        if first > at:
            push(others, at)
            push(others, <int32_t>first - at)
        at = max(at, first + count)
    return 0
