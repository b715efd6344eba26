"""``python -m fastgrad NOTEBOOK.ipynb`` runs the code cells in order, as one program.

Each notebook is run in a process of its own. What it prints is stated here to the letter, and so
is its exit status.
"""

import ast
import json
import subprocess
import sys
from textwrap import dedent
from typing import NamedTuple

import pytest

from fastgrad.notebook import run_notebook


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current directory, far from any source tree."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def code(source):
    """A code cell of nbformat 4."""
    return {"cell_type": "code", "metadata": {}, "outputs": [], "source": dedent(source).strip()}


def notebook(*sources, **metadata):
    """The bytes of a notebook with these code cells, and one of text before each."""
    text = {"cell_type": "markdown", "metadata": {}, "source": ["# Title\n", "1 / 0\n"]}
    cells = [cell for source in sources for cell in (text, code(source))]
    content = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content).encode()


class Run(NamedTuple):
    out: str
    err: str
    status: int


def run_file(*args, stdin=""):
    """What fastgrad prints when it runs a notebook, and its exit status."""
    command = [sys.executable, "-m", "fastgrad", *args]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    return Run(done.stdout, done.stderr, done.returncode)


@pytest.fixture
def run(folder):
    """Run a notebook with the given cells."""

    def run(*sources, args=(), stdin=""):
        (folder / "nb.ipynb").write_bytes(notebook(*sources))
        return run_file("nb.ipynb", *args, stdin=stdin)

    return run


def printed(out):
    """A run that prints `out` and nothing to complain of."""
    return Run(out, "", 0)


# ---- one program


def test_cells_share_names_and_their_values_are_not_shown(run):
    ran = run("from micrograd.engine import Value\na = Value(2)\na", "", "print(a * 3)\na\n")
    assert ran == printed("Value(data=6, grad=0)\n")


def test_main_is_the_notebook(run):
    ran = run(
        """
        import sys
        print(vars(sys.modules["__main__"]) is globals(), __name__, "__file__" in globals())
        print(sorted(name for name in globals() if not name.startswith("__")))
        """
    )
    assert ran == printed("True __main__ False\n['sys']\n")


def test_arguments_stdin_and_path(folder):
    (folder / "a").mkdir()
    (folder / "a/beside.py").write_text("print('beside')")
    cells = ["import sys, beside; print(sys.argv)", "print(input())", "print(sys.stdin.read())"]
    (folder / "a/nb.ipynb").write_bytes(notebook(*cells))
    ran = run_file("a/nb.ipynb", "--help", "a b", stdin="one\ntwo")
    assert ran == printed("beside\n['a/nb.ipynb', '--help', 'a b']\none\ntwo\n")


def test_display(run):
    assert run("display('text', [1], metadata={})", "print(display(2))") == printed(
        "'text'\n[1]\n2\nNone\n"
    )


def test_display_is_not_there_for_nothing(run):
    assert run("print('display' in globals())") == printed("False\n")
    assert run("def display(x): print(x)", "display('own')") == printed("own\n")


def test_future_annotations_hold_for_later_cells(run):
    ran = run(
        "def f(x: int): ...\nprint(f.__annotations__)\n",
        "from __future__ import annotations",
        "def f(x: missing): ...\nprint(f.__annotations__)",
    )
    assert ran == printed("{'x': <class 'int'>}\n{'x': 'missing'}\n")


def test_source_is_there_for_inspect(run):
    ran = run(
        "pass", "%time\ndef f():\n    return 1\n", "import inspect\nprint(inspect.getsource(f))"
    )
    assert ran == printed("def f():\n    return 1\n")


# ---- exit and errors


@pytest.mark.parametrize(
    ("exit_", "status", "err"), [("3", 3, ""), ("", 0, ""), ("'text'", 1, "text\n")]
)
def test_exit(run, exit_, status, err):
    assert run(f"import sys\nprint(1)\nsys.exit({exit_})", "print(2)") == Run("1\n", err, status)


def plain(err):
    """A traceback without the lines that mark columns, which differ from python to python."""
    return [line for line in err.splitlines() if line.strip(" ^~")]


def test_traceback_names_cells_and_shows_lines(run):
    ran = run(
        "print(1)", "%matplotlib inline\n\ndef f(x):\n    return 1 / x\n", "!pip list\nf(0)", "2"
    )
    assert (ran.out, ran.status) == ("1\n", 1)
    assert plain(ran.err) == [
        "Traceback (most recent call last):",
        '  File "nb.ipynb, cell 3", line 2, in <module>',
        "    f(0)",
        '  File "nb.ipynb, cell 2", line 4, in f',
        "    return 1 / x",
        "ZeroDivisionError: division by zero",
    ]


@pytest.mark.parametrize(
    ("source", "line", "text", "message"),
    [
        ("x = 1\nx = = 2", 2, "x = = 2", "invalid syntax"),
        ("%pip list\nx = (1,\n%matplotlib", 2, "x = (1,", "'(' was never closed"),
        ("%pip list\nreturn 1", 2, "return 1", "'return' outside function"),
        ("ls -l x", 1, "ls -l x", "invalid syntax"),
    ],
    ids=["line", "unclosed", "return", "automagic"],
)
def test_syntax_error_waits_for_its_turn(run, source, line, text, message):
    ran = run("print(1)", source, "print(2)")
    assert (ran.out, ran.status) == ("1\n", 1)
    assert plain(ran.err) == [
        f'  File "nb.ipynb, cell 2", line {line}',
        f"    {text}",
        f"SyntaxError: {message}",
    ]


def test_warning_shows_its_line(run):
    ran = run("import warnings", "\nwarnings.warn('careful')")
    err = "nb.ipynb, cell 2:1: UserWarning: careful\n  warnings.warn('careful')\n"
    assert ran == Run("", err, 0)


def test_the_programs_own_excepthook_is_called(run):
    ran = run("import sys\nsys.excepthook = lambda *error: print('hook', error[1])", "1 / 0")
    assert ran == Run("hook division by zero\n", "", 1)


# ---- magics


@pytest.mark.parametrize(
    "magic",
    [
        "%matplotlib inline",
        "% matplotlib inline",
        "%load_ext fastgrad",
        "%config InlineBackend.figure_format = 'retina'",
        "%pip install \\\n    micrograd",
        "!pip install micrograd",
        "! pip3 install -q micrograd \\\n  numpy \\\n  tqdm",
        "!{sys.executable} -m pip install micrograd",
        "!apt-get install graphviz",
        "pip install micrograd",
        "%timeit print('timed')",
        "%time",
        "?print",
        "print??",
        "str.join?",
    ],
)
def test_harmless_magic_is_skipped(run, magic):
    assert run(f"{magic}\nprint(1)", f"if True:\n    {magic}\nprint(2)") == printed("1\n2\n")


def test_time_runs_its_statement(run):
    ran = run(
        """
        %time x = 1
        y = %time x + 1
        def f():
            %time z = (x +
                y)
            return z
        """,
        "%%time\nprint(x, y, f())",
    )
    assert ran == printed("1 2 3\n")


@pytest.mark.parametrize("magic", ["html", "markdown", "latex", "javascript", "svg", "timeit"])
def test_cell_magic_that_skips_the_cell(run, magic):
    assert run(f"\n%%{magic} x\nprint('cell') <b>\n\n!ls\n", "print(2)") == printed("2\n")


def test_captured_output_is_not_shown(run):
    shout = "import sys\nprint('out')\nprint('err', file=sys.stderr)\nx = 1"
    assert run(f"%%time\n\n%%capture\n{shout}", "print(x)") == printed("1\n")
    ran = run(f"%%capture\n{shout}\n1 / 0")
    assert (ran.out, ran.status) == ("", 1)
    assert plain(ran.err)[1:] == [
        '  File "nb.ipynb, cell 1", line 6, in <module>',
        "    1 / 0",
        "ZeroDivisionError: division by zero",
    ]


def test_what_only_looks_like_a_magic_is_python(run):
    ran = run(
        """
        text = '''
        %run other.py
        !ls
        why?
        '''
        a, b = 7, 4
        c = (a
        % b)
        c = c \\
        % b
        # why?
        d = f(a,
            '''
        %cd''') if a != 7 else "%time b"
        if a:

            %pip list
            e = [
        1
        %
        2
        ]
        print(text.split(), c, d, e)
        %matplotlib inline
        """
    )
    assert ran == printed("['%run', 'other.py', '!ls', 'why?'] 3 %time b [1]\n")


@pytest.mark.parametrize(
    ("magic", "text"),
    [
        ("%run other.py", "%run other.py"),
        ("%cd ..", "%cd .."),
        ("%timer", "%timer"),
        ("!ls -l", "!ls -l"),
        ("!!ls", "!!ls"),
        ("if x:\n    !rm x", "!rm x"),
        ("files = !ls", "files = !ls"),
        ("a, b[0] = %who_ls", "a, b[0] = %who_ls"),
        ("%time !ls", "!ls"),
        ("%%bash", "%%bash"),
        ("%%time\n%%writefile x.py", "%%writefile x.py"),
        ("%%capture output", "%%capture output"),
        ("x = 1\n%%time", "%%time"),
    ],
)
def test_any_other_magic_is_an_error_before_anything_runs(run, magic, text):
    ran = run("print(1)", f"%pip list\n{magic}" if magic[:2] != "%%" else f"\n{magic}")
    line = 1 + magic.count("\n") + (magic[:2] != "%%")
    err = (
        f"fastgrad: nb.ipynb, cell 2, line {line}: cannot run {text!r}; "
        "delete the line, or write in Python what it does\n"
    )
    assert ran == Run("", err, 2)


# ---- the file


SAVE = "save it from Jupyter as .ipynb (nbformat 4)\n"


@pytest.mark.parametrize(
    ("data", "err"),
    [
        (b"print(1)", "not JSON (Expecting value: line 1 column 1 (char 0)); " + SAVE),
        (b"", "not JSON (Expecting value: line 1 column 1 (char 0)); " + SAVE),
        (b"[1]", "its JSON has no list of cells; " + SAVE),
        (b'{"cells": 1}', "its JSON has no list of cells; " + SAVE),
    ],
)
def test_no_notebook(folder, data, err):
    (folder / "nb.ipynb").write_bytes(data)
    assert run_file("nb.ipynb") == Run("", f"fastgrad: nb.ipynb is no notebook: {err}", 2)


def test_missing_file():
    ran = run_file("missing.ipynb")
    assert (ran.out, ran.status) == ("", 2)
    assert "can't open file" in ran.err
    assert "missing.ipynb': [Errno 2] No such file or directory\n" in ran.err


@pytest.mark.parametrize(
    "metadata",
    [{"language_info": {"name": "R"}}, {"kernelspec": {"name": "ir", "language": "R"}}],
    ids=["language_info", "kernelspec"],
)
def test_other_language(folder, metadata):
    (folder / "nb.ipynb").write_bytes(notebook("print(1)", **metadata))
    err = "fastgrad: nb.ipynb is written in R: expected Python; run it in Jupyter\n"
    assert run_file("nb.ipynb") == Run("", err, 2)


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + notebook("print(ascii('\xe9'))"),
        notebook("print(ascii('\xe9'))", language_info={"name": "ipython"}),
        notebook("print(ascii('\xe9'))").replace(b"print", b"%pip list\\r\\nprint"),
        json.dumps(
            {"cells": [{"cell_type": "code", "source": ["if 1:\n", "  print(ascii('\xe9'))"]}]}
        ).encode(),
        json.dumps(
            {
                "nbformat": 3,
                "worksheets": [{"cells": [{"cell_type": "code", "input": "print(ascii('\xe9'))"}]}],
            },
            ensure_ascii=False,
        ).encode(),
    ],
    ids=["byte order mark", "ipython", "carriage return", "list of lines", "nbformat 3"],
)
def test_forms_of_notebook(folder, data):
    (folder / "nb.ipynb").write_bytes(data)
    assert run_file("nb.ipynb") == printed("'\\xe9'\n")


# ---- prepare


def test_prepare_gets_all_trees_once_and_may_change_them(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    calls = []

    def prepare(trees, names):
        calls.append(([ast.unparse(tree) for tree in trees], names, capsys.readouterr().out))
        trees[1].body += ast.parse("print('added')").body

    def call(f, *args):
        return f(*args)

    data = notebook("print(1)", "print(2", "%time x = 3")
    namespace = {}
    with pytest.raises(SyntaxError, match="was never closed"):
        run_notebook("nb.ipynb", data, namespace, prepare, call)
    assert calls == [(["print(1)", "x = 3"], ["nb.ipynb, cell 1", "nb.ipynb, cell 3"], "")]
    assert (capsys.readouterr().out, "x" in namespace) == ("1\n", False)

    run_notebook("nb.ipynb", notebook("print(1)", "x = 3"), namespace, prepare, call)
    assert (capsys.readouterr().out, namespace["x"]) == ("1\nadded\n", 3)
