"""Planning a fused program: in which order it runs, in which slots its numbers lie.

Nodes that vary are put in the order of their depth, and within a depth by operation, so that the
kernels meet long runs of one op.  Forward unit p runs at time p, its reverse at time 2*units - p;
a slot is free again once the number in it has been read for the last time, which for a value may be
in the reverse sweep.  Adjoints get their slots at the first contribution.  The streams are those of
``kernels/program.h``.

Invariant: plans depend on the program alone, not on batch, threads or machine.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport free

from fastgrad.nodes cimport (
    ACTIVE, OP_DENSE, OP_END, OP_PICK, OP_SUM, SECOND, BOTH, SLOT_TRASH, SLOT_ZERO, SLOTS_FIXED,
    VARIES, Fused, operands,
)
from fastgrad.order cimport (
    is_elementary, layer_members, layer_x, of_inputs, order_units, picks, which_wanted,
)
from fastgrad.recording cimport OP_INPUT
from fastgrad.tape cimport (
    OP_ARGMAX, OP_CUSTOM, OP_DETACH, OP_DOT, OP_FIRST_POOLED, OP_LEAF, OP_MAXIMUM, OP_RUN, OP_TAKE,
)
from fastgrad.uniforms cimport divide_weights, find_copied, plan_uniforms
from fastgrad.words cimport Stream, begin, end, extend, push, zeros


cdef enum:
    AHEAD_FROM = 1 << 14  # weights of a layer of inputs from which its sums may be computed ahead


cdef class Plan:
    """See the head of this file.

    Parameters
    ----------
    graph : Fused
    gradient : bool
        With a reverse sweep from the one output.
    """

    def __cinit__(self, Fused graph, bint gradient):
        cdef int64_t n = graph.size
        self.graph, self.gradient = graph, gradient
        self.slot = <int32_t *>zeros(n, sizeof(int32_t))
        self.adjoint = <int32_t *>zeros(n, sizeof(int32_t))
        self.last = <int32_t *>zeros(n, sizeof(int32_t))
        self.sum_place = <int32_t *>zeros(n, sizeof(int32_t))
        self.seen = <uint8_t *>zeros(n, 1)
        self.dense = <Dense *>zeros(graph.layer_count, sizeof(Dense))
        self.c.slots = SLOTS_FIXED
        order_units(graph, gradient, &self.units)
        self.places = self.units.size
        find_ends(self)
        plan_forward(self)
        if gradient:
            plan_reverse(self)
        plan_uniforms(graph, gradient, &self.uniform_forward, &self.uniform_reverse)
        finish(self)
        release(self)

    cdef int64_t products(self) noexcept nogil:
        """How many products of weights and inputs the layers have for one sample."""
        cdef int64_t layer, count = 0
        for layer in range(self.c.dense_count):
            count += <int64_t>self.dense[layer].inputs * self.dense[layer].neurons
        return count

    def __dealloc__(self):
        free(self.forward.words.at)
        free(self.reverse.words.at)
        free(self.uniform_forward.words.at)
        free(self.uniform_reverse.words.at)
        free(self.inputs.at)
        free(self.splats.at)
        free(self.outputs.at)
        free(self.chosen.at)
        free(self.dense_words.at)
        free(self.packed.at)
        free(self.copied.at)
        free(self.sum_uniforms.at)
        free(self.free_slots.at)
        free(self.groups.at)
        free(self.units.at)
        free(self.tasks.at)
        free(self.group_tasks.at)
        free(self.task_layers.at)
        free(self.dense)
        free(self.constants)
        free_nodes(self)
        free(self.cleared.at)


cdef void free_nodes(Plan plan) noexcept:
    free(plan.slot)
    free(plan.adjoint)
    free(plan.last)
    free(plan.sum_place)
    free(plan.seen)
    plan.slot = plan.adjoint = plan.sum_place = NULL
    plan.last = NULL
    plan.seen = NULL


cdef int release(Plan plan) except -1:
    """Keep what runs need: of a large model the nodes would take several times its numbers."""
    cdef Fused graph = plan.graph
    cdef int32_t node
    plan.parameters, plan.constant_count = graph.parameters, graph.constants
    plan.uniforms = graph.uniforms
    plan.constants = <double *>zeros(graph.constants, sizeof(double))
    for node in range(graph.size):
        if graph.op[node] == OP_LEAF:
            plan.constants[graph.uniform[node] - graph.parameters] = graph.val[node]
    plan.graph = None
    free_nodes(plan)
    return 0


# ---- when numbers are read for the last time


cdef inline void read_at(Plan plan, int32_t node, int32_t time) noexcept:
    if time > plan.last[node]:
        plan.last[node] = time


cdef int find_ends(Plan plan) except -1:
    cdef Fused graph = plan.graph
    cdef const int32_t *words = NULL
    cdef int32_t node, k, count = 0
    cdef int32_t at, back
    cdef bint active
    cdef int reads
    for at in range(plan.units.size):
        node = plan.units.at[at]
        back = 2 * plan.places - at
        if node < 0:
            words = layer_x(graph, -1 - node)
            for k in range(graph.layers[-1 - node].inputs):
                read_at(plan, words[k], at)
                if not of_inputs(graph, -1 - node):
                    plan.seen[words[k]] = True
            continue
        active = plan.gradient and graph.marks[node] & ACTIVE
        operands(graph, node, &words, &count)
        for k in range(count):
            read_at(plan, words[k], at)
            plan.seen[words[k]] = True
        if is_elementary(graph, node):
            if graph.op[node] < OP_FIRST_POOLED:
                read_at(plan, graph.b[node], at)
                plan.seen[graph.b[node]] = True
            reads = op_reads(graph.op[node], which_wanted(graph, node)) if active else 0
            if reads & READS_X:
                read_at(plan, graph.a[node], back)
            if reads & READS_Y:
                read_at(plan, graph.b[node], back)
            if reads & READS_Z:
                read_at(plan, node, back)
        elif active and graph.op[node] == OP_DOT:
            for k in range(1, count):  # of each product the other factor
                if graph.marks[words[k + 1 if k % 2 else k - 1]] & ACTIVE:
                    read_at(plan, words[k], back)
        elif active and graph.op[node] == OP_CUSTOM:
            for k in range(count):
                read_at(plan, words[k], back)
        elif active:
            read_at(plan, words[0], back)
    for at in range(graph.outputs.size):
        read_at(plan, graph.outputs.at[at], plan.places)
        plan.seen[graph.outputs.at[at]] = True
    return 0


# ---- slots


cdef inline int32_t take_slot(Plan plan) except -1:
    if plan.free_slots.size:
        plan.free_slots.size -= 1
        return plan.free_slots.at[plan.free_slots.size]
    plan.c.slots += 1
    return plan.c.slots - 1


cdef inline int32_t read_slot(Plan plan, int32_t node) except -1:
    """A value's slot; uniform numbers that lanes read get one each, which is filled once a run."""
    if not plan.slot[node]:
        plan.slot[node] = plan.c.slots
        plan.c.slots += 1
        push(&plan.splats, plan.slot[node])
        push(&plan.splats, plan.graph.uniform[node])
    return plan.slot[node]


cdef inline int release_value(Plan plan, int32_t node) except -1:
    """Free a value's slot if it is not read after the present time."""
    if plan.graph.marks[node] & VARIES and plan.slot[node] and plan.last[node] <= plan.time:
        push(&plan.free_slots, plan.slot[node])
        plan.slot[node] = 0
    return 0


cdef int contribute(Plan plan, int32_t node, bint wanted, int32_t *pair) except -1:
    """Where a contribution to a node's adjoint starts from and goes to."""
    pair[0], pair[1] = SLOT_ZERO, SLOT_TRASH
    if wanted and plan.graph.marks[node] & ACTIVE:
        if plan.adjoint[node]:
            pair[0] = plan.adjoint[node]
        else:
            plan.adjoint[node] = take_slot(plan)
        pair[1] = plan.adjoint[node]
    return 0


cdef int32_t sum_of(Plan plan, int32_t node) except -2:
    """The place of a uniform's adjoint in a strand's sums; -1 if it is not wanted."""
    if not plan.graph.marks[node] & ACTIVE:
        return -1
    if not plan.sum_place[node]:
        push(&plan.sum_uniforms, plan.graph.uniform[node])
        plan.sum_place[node] = <int32_t>plan.sum_uniforms.size
    return plan.sum_place[node] - 1


# ---- forward


cdef int plan_forward(Plan plan) except -1:
    cdef Fused graph = plan.graph
    cdef int32_t node
    for node in range(graph.size):
        if graph.op[node] == OP_INPUT and plan.seen[node]:
            plan.slot[node] = take_slot(plan)
            push(&plan.inputs, plan.slot[node])
            push(&plan.inputs, graph.a[node])
    for plan.time in range(plan.places):
        node = plan.units.at[plan.time]
        if node < 0:
            forward_layer(plan, -1 - node)
        else:
            forward_node(plan, node)
    plan.time = plan.places
    for node in range(graph.outputs.size):
        push(&plan.outputs, read_slot(plan, graph.outputs.at[node]))
    return end(&plan.forward, OP_END * 4)


cdef int forward_node(Plan plan, int32_t node) except -1:
    cdef Fused graph = plan.graph
    cdef Stream *stream = &plan.forward
    cdef const int32_t *words = NULL
    cdef int32_t count = 0, k, x, y
    cdef int op = graph.op[node]
    operands(graph, node, &words, &count)
    if is_elementary(graph, node) or op == OP_DETACH:
        x = y = read_slot(plan, words[0])
        if op < OP_FIRST_POOLED:
            y = read_slot(plan, graph.b[node])
        begin(stream, OP_MAXIMUM if op == OP_DETACH else op)  # of x and x: a copy
        release_value(plan, words[0])
        if op < OP_FIRST_POOLED:
            release_value(plan, graph.b[node])
        plan.slot[node] = take_slot(plan)
        push(&stream.words, plan.slot[node])
        push(&stream.words, x)
        push(&stream.words, y)
        return keep_or_release(plan, node)
    begin(stream, OP_PICK if picks(graph, node) else op)
    x = <int32_t>stream.words.size
    push(&stream.words, 0)
    if op == OP_DOT:
        push(&stream.words, read_slot(plan, words[0]))
        push(&stream.words, graph.b[node])
        words += 1
        count -= 1
    elif op == OP_ARGMAX:
        push(&stream.words, count)
    elif op == OP_CUSTOM:
        push(&stream.words, graph.pool.at[graph.a[node]])
        push(&stream.words, count)
    elif op == OP_TAKE:
        if graph.op[words[0]] == OP_INPUT:
            push(&plan.chosen, x)
            push(&plan.chosen, graph.a[words[0]])
        push(&stream.words, read_slot(plan, words[0]))
        push(&stream.words, count - 1)
        words += 1
        count -= 1
    for k in range(count):
        push(
            &stream.words,
            graph.uniform[words[k]] if picks(graph, node) else read_slot(plan, words[k]),
        )
    operands(graph, node, &words, &count)
    for k in range(count):
        release_value(plan, words[k])
    plan.slot[node] = take_slot(plan)
    stream.words.at[x] = plan.slot[node]
    return keep_or_release(plan, node)


cdef inline int keep_or_release(Plan plan, int32_t node) except -1:
    """A value that nothing reads again leaves its slot at once: an adjoint may need none of it."""
    return release_value(plan, node) if plan.last[node] <= plan.time else 0


cdef int forward_layer(Plan plan, int32_t layer) except -1:
    cdef Fused graph = plan.graph
    cdef Dense *dense = plan.dense + layer
    cdef const int32_t *members = layer_members(graph, layer)
    cdef const int32_t *x = layer_x(graph, layer)
    cdef int32_t k
    begin(&plan.forward, OP_DENSE)
    push(&plan.forward.words, layer)
    dense.neurons, dense.inputs = graph.layers[layer].members, graph.layers[layer].inputs
    if of_inputs(graph, layer):
        plan.c.scratch = max(plan.c.scratch, dense.inputs | 1)
    else:
        dense.x_at = plan.c.stash
        plan.c.stash += dense.inputs | 1
    dense.g_at = plan.c.stash
    plan.c.stash += dense.neurons | 1
    dense.z_at = -1
    if (
        plan.gradient and of_inputs(graph, layer)
        and <int64_t>dense.inputs * dense.neurons >= AHEAD_FROM
    ):
        dense.z_at = plan.c.ahead
        for k in range(0, dense.neurons, GROUP):
            push(&plan.groups, layer)
            push(&plan.groups, k)
            plan.c.ahead += GROUP
    # Offsets for now: `finish` makes pointers of them.
    dense.x = <const int32_t *>plan.dense_words.size
    for k in range(dense.inputs):
        push(&plan.dense_words, plan.slot[x[k]])
    dense.columns = NULL
    if of_inputs(graph, layer):
        dense.columns = <const int32_t *>plan.dense_words.size
        for k in range(dense.inputs):
            push(&plan.dense_words, graph.a[x[k]])
    for k in range(dense.inputs):
        release_value(plan, x[k])
    dense.bias = <const int32_t *>plan.dense_words.size
    for k in range(dense.neurons):
        push(&plan.dense_words, graph.uniform[graph.pool.at[graph.a[members[k]]]])
    dense.z = <const int32_t *>plan.dense_words.size
    for k in range(dense.neurons):
        plan.slot[members[k]] = take_slot(plan)
        push(&plan.dense_words, plan.slot[members[k]])
    return place_weights(plan, layer)


cdef int place_weights(Plan plan, int32_t layer) except -1:
    """Find the weights' rows among the uniforms, or have them copied together."""
    cdef Fused graph = plan.graph
    cdef Dense *dense = plan.dense + layer
    cdef const int32_t *members = layer_members(graph, layer)
    cdef int32_t j, k, w
    cdef int64_t last
    cdef bint regular = True
    for j in range(dense.neurons):
        w = weight(graph, members[j], 0)
        if j == 0:
            dense.first = w
        elif j == 1:
            dense.row = w - dense.first
        regular = regular and w == dense.first + j * dense.row
        if graph.op[members[j]] == OP_RUN:  # its weights are parameters, side by side
            dense.wants_weights = 1
            continue
        for k in range(dense.inputs):
            regular = regular and weight(graph, members[j], k) == w + k
            dense.wants_weights |= graph.marks[weight_node(graph, members[j], k)] & ACTIVE != 0
    if regular and (dense.neurons == 1 or dense.row >= dense.inputs):
        last = dense.first + (dense.neurons - 1) * dense.row + dense.inputs - 1
        dense.space = IN_PARAMETERS if last < graph.parameters else IN_UNIFORM
        for j in range(dense.neurons):
            if graph.op[members[j]] == OP_DOT and dense.space == IN_PARAMETERS:
                for k in range(dense.inputs):  # the uses that are left are others
                    graph.uses[weight_node(graph, members[j], k)] -= 1
        return 0
    dense.space = IN_PACKED
    dense.first, dense.row = plan.packed.size, dense.inputs
    for j in range(dense.neurons):
        for k in range(dense.inputs):
            push(&plan.packed, weight(graph, members[j], k))
    return 0


cdef inline int32_t weight_node(Fused graph, int32_t node, int32_t k) noexcept:
    """Of a DOT."""
    return graph.pool.at[graph.a[node] + 2 * k + 1]


cdef inline int32_t weight(Fused graph, int32_t node, int32_t k) noexcept:
    """Which uniform the weight of a member's term k is."""
    if graph.op[node] == OP_RUN:
        return graph.pool.at[graph.a[node] + 1] + k
    return graph.uniform[weight_node(graph, node, k)]


# ---- reverse


cdef int plan_reverse(Plan plan) except -1:
    cdef Fused graph = plan.graph
    cdef int32_t node = graph.outputs.at[0]
    cdef int64_t at
    if graph.marks[node] & ACTIVE:
        plan.adjoint[node] = take_slot(plan)
    plan.c.seed = plan.adjoint[node] if plan.adjoint[node] else SLOT_TRASH
    release_value(plan, node)
    for at in range(plan.places - 1, -1, -1):
        plan.time = 2 * plan.places - at
        node = plan.units.at[at]
        if node < 0:
            reverse_layer(plan, -1 - node)
        elif graph.marks[node] & ACTIVE and plan.adjoint[node]:
            reverse_node(plan, node)
    for node in range(graph.size):
        if plan.adjoint[node] and not graph.marks[node] & VARIES:
            begin(&plan.reverse, 4 * OP_SUM)
            push(&plan.reverse.words, sum_of(plan, node))
            push(&plan.reverse.words, plan.adjoint[node])
    return end(&plan.reverse, OP_END * 4)


cdef int release_adjoint(Plan plan, int32_t node) except -1:
    if plan.adjoint[node]:
        push(&plan.free_slots, plan.adjoint[node])
        plan.adjoint[node] = 0
    return 0


cdef int reverse_node(Plan plan, int32_t node) except -1:
    cdef Fused graph = plan.graph
    cdef Stream *stream = &plan.reverse
    cdef const int32_t *words = NULL
    cdef int32_t count = 0, k, which
    cdef int32_t[8] code
    cdef int op = graph.op[node]
    operands(graph, node, &words, &count)
    if is_elementary(graph, node):
        which = which_wanted(graph, node)
        begin(stream, 4 * op + which)
        code[0] = plan.slot[node]
        code[1] = code[2] = plan.slot[words[0]]
        if op < OP_FIRST_POOLED:
            code[2] = plan.slot[graph.b[node]]
        code[3] = plan.adjoint[node]
        # The kernel reads everything before it writes, so what dies here may be written over.
        release_adjoint(plan, node)
        release_value(plan, node)
        release_value(plan, words[0])
        if op < OP_FIRST_POOLED:
            release_value(plan, graph.b[node])
        contribute(plan, words[0], which != SECOND, code + 4)
        contribute(plan, graph.b[node], which == SECOND or which == BOTH, code + 6)
        return extend(&stream.words, code, 8)
    begin(stream, 4 * (OP_PICK if picks(graph, node) else op))
    if op == OP_DOT:
        push(&stream.words, plan.adjoint[node])
        push(&stream.words, graph.b[node])
        contribute(plan, words[0], True, code)
        extend(&stream.words, code, 2)
        for k in range(graph.b[node]):
            code[0], code[1] = plan.slot[words[2 * k + 1]], plan.slot[words[2 * k + 2]]
            contribute(plan, words[2 * k + 1], True, code + 2)
            contribute(plan, words[2 * k + 2], True, code + 4)
            extend(&stream.words, code, 6)
    elif op == OP_CUSTOM:
        push(&stream.words, graph.pool.at[graph.a[node]])
        push(&stream.words, plan.adjoint[node])
        push(&stream.words, count)
        for k in range(count):
            push(&stream.words, plan.slot[words[k]])
        for k in range(count):
            contribute(plan, words[k], True, code)
            extend(&stream.words, code, 2)
    else:  # TAKE, WHERE
        push(&stream.words, plan.slot[words[0]])
        push(&stream.words, plan.adjoint[node])
        if op == OP_TAKE:
            push(&stream.words, count - 1)
        for k in range(1, count):
            if picks(graph, node):
                push(&stream.words, sum_of(plan, words[k]))
                continue
            contribute(plan, words[k], True, code)
            extend(&stream.words, code, 2)
    release_adjoint(plan, node)
    for k in range(count):
        release_value(plan, words[k])
    return 0


cdef int reverse_layer(Plan plan, int32_t layer) except -1:
    cdef Fused graph = plan.graph
    cdef Dense *dense = plan.dense + layer
    cdef const int32_t *members = layer_members(graph, layer)
    cdef const int32_t *x = layer_x(graph, layer)
    cdef int32_t k
    cdef int32_t[2] pair
    cdef bint reached = False, wants_x = False
    for k in range(dense.neurons):
        reached = reached or plan.adjoint[members[k]] != 0
    if not reached:
        dense.wants_weights = 0
        return 0
    begin(&plan.reverse, 4 * OP_DENSE)
    push(&plan.reverse.words, layer)
    dense.gz = <const int32_t *>plan.dense_words.size
    for k in range(dense.neurons):
        push(&plan.dense_words, plan.adjoint[members[k]])  # 0: SLOT_ZERO
    dense.bias_sums = <const int32_t *>plan.dense_words.size
    for k in range(dense.neurons):
        push(&plan.dense_words, sum_of(plan, graph.pool.at[graph.a[members[k]]]))
    for k in range(dense.neurons):
        release_adjoint(plan, members[k])
    for k in range(dense.inputs):
        wants_x = wants_x or graph.marks[x[k]] & ACTIVE
    dense.gx = NULL
    if wants_x:
        dense.gx = <const int32_t *>plan.dense_words.size
        for k in range(dense.inputs):
            contribute(plan, x[k], True, pair)
            extend(&plan.dense_words, pair, 2)
    return 0


# ---- the end


cdef const int32_t *placed(Plan plan, const int32_t *offset) noexcept:
    return plan.dense_words.at + <size_t>offset


cdef int finish(Plan plan) except -1:
    cdef int32_t layer
    cdef Dense *dense
    cdef CPlan *c = &plan.c
    c.dense_count = plan.graph.layer_count
    for layer in range(c.dense_count):
        dense = plan.dense + layer
        dense.x, dense.z = placed(plan, dense.x), placed(plan, dense.z)
        dense.bias = placed(plan, dense.bias)
        dense.gz, dense.bias_sums = placed(plan, dense.gz), placed(plan, dense.bias_sums)
        if dense.gx != NULL:
            dense.gx = placed(plan, dense.gx)
        if dense.columns != NULL:
            dense.columns = placed(plan, dense.columns)
    c.forward, c.reverse = plan.forward.words.at, plan.reverse.words.at
    c.dense, c.inputs, c.splats = plan.dense, plan.inputs.at, plan.splats.at
    c.outputs = plan.outputs.at
    c.input_count = <int32_t>(plan.inputs.size // 2)
    c.splat_count = <int32_t>(plan.splats.size // 2)
    c.output_count = <int32_t>plan.outputs.size
    c.sums = <int32_t>plan.sum_uniforms.size
    find_copied(plan.graph, plan.dense, &plan.packed, &plan.copied)
    return divide_weights(plan.dense, c.dense_count, plan.graph.uniforms, &plan.tasks,
                          &plan.group_tasks, &plan.task_layers, &plan.cleared)
