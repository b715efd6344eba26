"""Drawings: what micrograd's notebook draws, laid out without overlaps, and nothing changed by it.

The oracle is the code of micrograd's trace_graph.ipynb on the graphviz package, whose DOT text is
compared; the package needs no ``dot`` program for that.
"""

import gc
import math
import random
import re
import runpy
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import micrograd.engine
import micrograd.nn
import pytest
from alive import entries_alive
from graphviz import Digraph
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import get_data_path
from matplotlib.ft2font import FT2Font
from oracles import notebook_trace, readme_example

import fastgrad
from fastgrad import Value, functional, nn
from fastgrad.fold import fold
from fastgrad.graph import draw_dot, trace
from fastgrad.layered import BETWEEN_BOXES, arrange
from fastgrad.look import reached
from fastgrad.picture import PADDING, plain, width

SVG = "{http://www.w3.org/2000/svg}"


def notebook_draw_dot(root, rankdir="LR"):
    nodes, edges = notebook_trace(root)
    dot = Digraph(format="svg", graph_attr={"rankdir": rankdir})
    for n in nodes:
        label = f"{{ data {n.data:.4f} | grad {n.grad:.4f} }}"
        dot.node(name=str(id(n)), label=label, shape="record")
        if n._op:
            dot.node(name=str(id(n)) + n._op, label=n._op)
            dot.edge(str(id(n)) + n._op, str(id(n)))
    for n1, n2 in edges:
        dot.edge(str(id(n1)), str(id(n2)) + n2._op)
    return dot


def neuron(Value, nn):
    random.seed(1337)
    return nn.Neuron(2)([Value(1.0), Value(-2.0)])


def readme(Value, nn):
    return readme_example(Value)[-1]


def shared(Value, nn):
    x = Value(3)
    return x * x + x.relu() * x


def leaf(Value, nn):
    return Value(2.5)


def by_hand(Value, nn):
    return Value(5.0, (Value(1.0),), "") * Value(2.0, (Value(3.0), Value(math.nan)), "my op")


GRAPHS = [neuron, readme, shared, leaf, by_hand]


def drawn(source):
    """The texts of a DOT source's nodes, and those at both ends of its edges, counted."""
    name = r'(?:"([^"]*)"|(\S+))'
    texts, edges = {}, []
    for line in source.splitlines():
        if found := re.match(rf"\t{name} -> {name}$", line):
            start, also_start, end, also_end = found.groups()
            edges.append((start or also_start, end or also_end))
        elif found := re.match(rf"\t(?!graph ){name} \[(.*)\]$", line):
            texts[found[1] or found[2]] = found[3]
    return Counter(texts.values()), Counter((texts[one], texts[other]) for one, other in edges)


@pytest.mark.parametrize("rankdir", ["LR", "TB"])
@pytest.mark.parametrize("make", GRAPHS)
def test_source_is_what_the_notebook_draws(make, rankdir):
    root = make(Value, nn)
    if make is not by_hand:
        root.backward()
    source = notebook_draw_dot(root, rankdir).source
    for k, node in enumerate(reached(root)):
        source = source.replace(str(id(node)), str(k))
    assert set(draw_dot(root, rankdir=rankdir).source.splitlines()) == set(source.splitlines())


@pytest.mark.parametrize("make", [neuron, readme, shared, leaf])
def test_nodes_edges_and_texts_are_micrograds(make):
    ours, theirs = make(Value, nn), make(micrograd.engine.Value, micrograd.nn)
    ours.backward()
    theirs.backward()
    texts, edges = drawn(draw_dot(ours).source)
    assert (texts, edges) == drawn(notebook_draw_dot(theirs).source)
    assert len(trace(ours)[0]) == len(notebook_trace(theirs)[0])


@pytest.mark.parametrize("make", GRAPHS)
def test_trace_is_the_notebooks(make):
    root = make(Value, nn)
    assert trace(root) == notebook_trace(root)


def test_labels_precision_and_long_numbers():
    x, y = Value(1.0, label="x"), Value(1e300)
    source = draw_dot(x * y, precision=2).source
    assert "{ x | data 1.00 | grad 0.00 }" in source
    assert "{ data 1.00e+300 | grad 0.00 }" in source


def test_record_characters_in_labels_are_escaped():
    x = Value(1.0, label='a{b}|<c>"\\\n')
    assert '[label="{ a\\{b\\}\\|\\<c\\>\\"\\\\  | data' in draw_dot(x).source


def test_any_name_of_an_operation_is_drawn():
    drawing = draw_dot(Value(1.0, (Value(2.0),), '<"\x00\\'))
    assert '[label="<\\" \\\\"]' in drawing.source
    assert '<" \\' in [element.text for element in parsed(drawing).iter(f"{SVG}text")]


def test_labels_of_dead_handles_are_drawn_and_stay():
    def f(x):
        inner = x * 2
        inner.label = "inner"
        return inner + 1

    root = f(Value(1.0))
    assert "{ inner |" in draw_dot(root).source
    assert "{ inner |" in draw_dot(root).source


def test_attributes_outlive_a_handle_that_the_cyclic_collector_found():
    """It may empty the dict that holds them before it comes to the handle."""
    x = Value(2.0)
    x.label, x.sizes = "x", [1, 2]
    used = x * 3.0
    made = Value(1.0, (x,), "made")
    made._backward = lambda out=made, x=x: None
    del x, made
    gc.collect()
    (x,) = (v for v in used._children if v.data == 2.0)
    assert (x.label, x.sizes) == ("x", [1, 2])


@pytest.mark.parametrize("look", [draw_dot, trace, fastgrad.tape_table])
def test_looking_changes_neither_gradients_nor_the_tape(look):
    model = nn.MLP(2, [16, 16, 1])
    loss = (model([1.0, -2.0]) - 1.0) ** 2
    loss.backward()
    grads = [p.grad for p in model.parameters()]
    everywhere = [(value.data, value.grad) for value in reached(loss)]
    entries = entries_alive()
    shown = look(loss)
    repr(shown), getattr(shown, "_repr_svg_", str)()
    assert [(value.data, value.grad) for value in reached(loss)] == everywhere
    assert entries_alive() == entries
    for p in model.parameters():
        p.grad = 0
    again = (model([1.0, -2.0]) - 1.0) ** 2
    again.backward()
    assert [p.grad for p in model.parameters()] == grads


@pytest.mark.parametrize("look", [draw_dot, fastgrad.tape_table])
def test_what_was_drawn_keeps_nothing_of_its_graph(look):
    root = sum((Value(float(k)) for k in range(50)), Value(0.0))
    entries = entries_alive()
    shown = look(root)
    del root
    assert entries_alive() == entries - 101
    assert "1225.0" in getattr(shown, "_repr_svg_", shown.__repr__)()


# ---- pictures


def parsed(drawing):
    return ElementTree.fromstring(drawing._repr_svg_())


@pytest.mark.parametrize("rankdir", ["LR", "TB"])
@pytest.mark.parametrize("make", GRAPHS)
def test_svg_shows_the_same_texts(make, rankdir):
    drawing = draw_dot(make(Value, nn), rankdir=rankdir)
    texts = Counter(element.text for element in parsed(drawing).iter(f"{SVG}text"))
    labels, _ = drawn(drawing.source)
    expected = Counter()
    for label, count in labels.items():
        label = label.removesuffix(" shape=record").removeprefix("label=").strip('"')
        for text in label.strip("{} ").split(" | "):
            expected[text] += count
    assert texts == expected


def test_svg_takes_any_label():
    root = Value(1.0, label='<&>"\x00\ud800\n' + "x" * 300) + Value(2.0, label="日本語")
    drawing = draw_dot(root)
    texts = [element.text for element in parsed(drawing).iter(f"{SVG}text")]
    assert '<&>"   ' + "x" * 40 + "…" in texts
    assert "日本語" in texts
    assert "x" * 300 in drawing.source


@given(st.text(st.characters(min_codepoint=32, max_codepoint=0xFF), max_size=60))
def test_text_fits_its_box(text):
    font = FT2Font(f"{get_data_path()}/fonts/ttf/DejaVuSansMono.ttf")
    font.set_size(12, 72)
    font.set_text(plain(text))
    assert font.get_width_height()[0] / 64 <= max(width(plain(text)) - PADDING, 0)


def box_of(center, size):
    (x, y), (w, h) = center, size
    return x - w / 2, x + w / 2, y - h / 2, y + h / 2


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 30))
    sizes = [
        (draw(st.integers(1, 200)) * 1.0, draw(st.integers(1, 80)) * 1.0) for _ in range(count)
    ]
    pairs = [(i, j) for j in range(count) for i in range(j)]
    edges = draw(st.lists(st.sampled_from(pairs), max_size=60, unique=True)) if pairs else []
    return sizes, edges


@given(graphs())
def test_boxes_do_not_overlap_and_arrows_keep_out_of_them(graph):
    sizes, edges = graph
    plan = arrange(sizes, edges)
    boxes = [box_of(center, size) for center, size in zip(plan.centers, sizes)]
    slack = 1e-6
    for left, right, top, bottom in boxes:
        assert -slack <= left and right <= plan.width + slack
        assert -slack <= top and bottom <= plan.height + slack
    for k, (left, right, top, bottom) in enumerate(boxes):
        for left2, right2, top2, bottom2 in boxes[:k]:
            apart = max(top - bottom2, top2 - bottom) >= BETWEEN_BOXES - slack
            assert apart or right <= left2 + slack or right2 <= left + slack
    # A straight part may touch a box at its end; a curve keeps to the gap between two columns.
    for (first, start, stop, last), _ in plan.routes:
        for left, right, top, bottom in boxes:
            for one, other in ((first, start), (stop, last)):
                inside = top + slack < one[1] < bottom - slack
                assert not (inside and one[0] < right - slack and other[0] > left + slack)
            assert not (start[0] < right - slack and stop[0] > left + slack)


@given(graphs())
def test_every_edge_is_drawn(graph):
    sizes, edges = graph
    plan = arrange(sizes, edges)
    ends = [(x + size[0] / 2, y) for (x, y), size in zip(plan.centers, sizes)]
    heads = {}  # where a line goes on: from its end to where it comes from
    for points, _ in plan.routes:
        heads.setdefault(points[3], []).append(points[0])
    starts = {end: k for k, end in enumerate(ends)}
    found = set()
    for k, ((x, y), size) in enumerate(zip(plan.centers, sizes)):
        waiting = list(heads.get((x - size[0] / 2, y), []))
        while waiting:
            point = waiting.pop()
            if point in starts:
                found.add((starts[point], k))
            else:
                waiting += heads[point]
    assert found == set(edges)


def test_a_tree_has_no_crossings():
    plan = arrange([(10.0, 10.0)] * 7, [(0, 4), (1, 4), (2, 5), (3, 5), (4, 6), (5, 6)])
    heights = [y for _, y in plan.centers]
    assert heights[:4] == sorted(heights[:4])
    assert heights[6] == pytest.approx((heights[4] + heights[5]) / 2)


def test_arrange_refuses_edges_backwards():
    with pytest.raises(ValueError, match="expected edges to lead to larger indices, got 1 to 0"):
        arrange([(1.0, 1.0)] * 2, [(1, 0)])


# ---- folding


@given(st.randoms(use_true_random=False), st.integers(1, 150))
def test_groups_are_a_partition_in_order_with_the_root_alone(rand, count):
    ops, operands = [], []
    for k in range(count):
        below = [rand.randrange(k) for _ in range(2)] if k and rand.random() < 0.7 else []
        ops.append(rand.choice("+*") if below else "")
        operands.append(below)
    used = {one for below in operands for one in below}
    loose = [k for k in range(count) if k not in used]
    ops.append("sum")
    operands.append(loose)
    groups = fold(ops, operands)
    assert sorted(k for group in groups for k in group.members) == list(range(count + 1))
    assert groups[-1].members == [count]
    place = {k: number for number, group in enumerate(groups) for k in group.members}
    for k, below in enumerate(operands):
        assert all(place[one] <= place[k] for one in below)


def test_a_net_folds_by_layer_and_fits_a_screen():
    drawing = draw_dot(nn.MLP(2, [16, 16, 1])([1.0, 2.0]))
    assert Counter(re.findall(r"\{ (\d.*?) \|", drawing.source)) == {
        "2 inputs": 1,
        "48 weights and biases": 1,
        "272 weights and biases": 1,
        "17 weights and biases": 1,
        "16 × dot": 2,
        "16 × ReLU": 2,
    }
    assert drawing.note == (
        "404 values folded into 9 boxes, by operation and depth; max_nodes=404 shows each"
    )
    assert drawing.note in drawing._repr_svg_() and drawing.note in drawing.source
    assert repr(drawing) == f"<Drawing of {drawing.note}>"
    picture = parsed(drawing)
    assert float(picture.get("width")) <= 1366 and float(picture.get("height")) <= 600


def test_max_nodes_decides():
    root = nn.MLP(2, [16, 16, 1])([1.0, 2.0])
    whole = draw_dot(root, max_nodes=404)
    assert whole.note == "" and repr(whole) == "<Drawing of 404 values>"
    assert draw_dot(root, max_nodes=403).note != ""


def test_two_sums_of_a_loss_are_two_groups():
    a = [Value(1.0) * float(k) for k in range(60)]
    b = [Value(2.0).relu() for _ in range(50)]
    root = sum(a) * sum(b)
    assert {"60 × +", "50 × +"} <= set(re.findall(r"\{ (\d.*?) \|", draw_dot(root).source))


def test_a_long_chain_folds_into_few_boxes():
    x = root = Value(0.5)
    for _ in range(1000):
        root = root * 1.01 + x
    assert len(draw_dot(root).source.splitlines()) < 100


def test_ranges_tell_of_nan():
    xs = [Value(float(k)) for k in range(300)]
    xs[7].data = math.nan
    assert "data 0.0000 … 298.0000, 1 nan" in draw_dot(sum(xs, Value(0.0))).source


# ---- files and errors


def test_save_writes_what_the_name_says(tmp_path):
    drawing = draw_dot(neuron(Value, nn))
    for name in ("a.svg", "a.dot", "a.png"):
        drawing.save(tmp_path / name)
    assert (tmp_path / "a.svg").read_text() == drawing._repr_svg_()
    assert (tmp_path / "a.dot").read_text() == drawing.source
    png = (tmp_path / "a.png").read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    size = [int.from_bytes(png[at : at + 4]) for at in (16, 20)]
    picture = parsed(drawing)
    for pixels, name in zip(size, ("width", "height")):
        assert abs(pixels - 2 * float(picture.get(name))) <= 2


def test_save_refuses_other_names_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"expected a name that ends in \.svg, \.png or \.dot"):
        draw_dot(Value(1.0)).save(tmp_path / "a.pdf")
    assert list(tmp_path.iterdir()) == []


def test_png_without_its_packages_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(ImportError, match=r'resvg_py: pip install "fastgrad\[plot\]", or save'):
        draw_dot(Value(1.0)).save(tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: draw_dot(3.0), TypeError, "expected a Value, the root of a graph, got float 3.0"),
        (lambda: draw_dot(Value(1), rankdir="RL"), ValueError, "'LR' or 'TB', got 'RL'"),
        (lambda: draw_dot(Value(1), precision=-1), ValueError, "precision to be at least 0"),
        (lambda: draw_dot(Value(1), max_nodes=-1), ValueError, "max_nodes to be at least 0"),
    ],
)
def test_errors_say_what_was_expected(call, error, text):
    with pytest.raises(error, match=re.escape(text)):
        call()


def test_drawing_inside_a_program_raises():
    @fastgrad.compile
    def f(x):
        draw_dot(x * 2)
        return x

    with pytest.raises(fastgrad.TraceError, match=r"reading \.data of"):
        f([1.0])


def test_softmax_draws_every_operation():
    root = functional.cross_entropy([Value(1.0), Value(2.0)], 0)
    texts, _ = drawn(draw_dot(root).source)
    assert texts["label=exp"] == 2


def test_figures_of_the_docs_are_up_to_date():
    figures = Path(__file__).parents[1] / "docs" / "figures"
    make = runpy.run_path(str(figures / "make.py"))
    for name, drawing in make["drawings"]():
        text = (figures / f"{name}.svg").read_text()
        assert text == drawing._repr_svg_(), "run docs/figures/make.py"
