"""``python -m fastgrad SCRIPT.py`` is ``python SCRIPT.py`` but for what ``import micrograd`` gives.

Each program here is run by both in processes of their own, which must print the same to the
letter, on stdout and on stderr, and end with the same status. The status is also stated here, so
that a program that breaks in both ways alike is not taken for a pass.
"""

import importlib.util
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pytest

import fastgrad


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current directory, far from any source tree."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, code):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(code), encoding="utf-8")


class Run(NamedTuple):
    out: str
    err: str
    status: int


def python(*args, stdin=""):
    """What ``python ARGS`` prints, and its exit status."""
    command = [sys.executable, *args]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    return Run(done.stdout, done.stderr, done.returncode)


def run_by_both(*args, flags=(), stdin="one\ntwo\n"):
    """Compare python and fastgrad running `args`; return what both did."""
    plain = python(*flags, *args, stdin=stdin)
    assert python(*flags, "-m", "fastgrad", *args, stdin=stdin) == plain
    return plain


# ---- install


@pytest.fixture
def real(folder, monkeypatch):
    """Another micrograd, first of those installed, which says so when it is imported."""
    monkeypatch.setenv("PYTHONPATH", str(folder / "installed"))
    write(folder / "installed/micrograd/__init__.py", "print('real')")
    write(folder / "installed/micrograd/engine.py", "Value = 'real Value'")
    write(folder / "installed/micrograd/nn.py", "MLP = 'real MLP'")
    write(folder / "installed/micrograd/value.py", "print('real value')")


def test_every_form_of_import_is_redirected(real):
    code = """
        import fastgrad, fastgrad.engine, fastgrad.nn
        fastgrad.install()
        import micrograd
        assert micrograd.engine is fastgrad.engine and micrograd.nn is fastgrad.nn
        import micrograd.engine as engine
        from micrograd import nn
        assert engine is fastgrad.engine and nn is fastgrad.nn
        from micrograd.engine import Value
        from micrograd.nn import *
        print(Value is fastgrad.engine.Value, MLP is fastgrad.nn.MLP)
    """
    assert python("-c", dedent(code)) == ("True True\n", "", 0)


def test_a_micrograd_already_imported_is_replaced(real):
    code = """
        import micrograd.engine, micrograd.nn
        import fastgrad
        fastgrad.install()
        from micrograd.engine import Value
        import micrograd.nn
        print(Value is fastgrad.engine.Value, micrograd.nn is fastgrad.nn)
    """
    assert python("-c", dedent(code)) == ("real\nTrue True\n", "", 0)


def test_load_ext_in_jupyter(real):
    code = """
        import importlib
        importlib.import_module("fastgrad").load_ipython_extension(None)  # what %load_ext does
        from micrograd.engine import Value
        print(Value.__module__)
    """
    assert python("-c", dedent(code)) == ("fastgrad.engine\n", "", 0)


def test_no_other_submodule_comes_from_fastgrad_or_the_real_micrograd(real):
    code = """
        import fastgrad
        fastgrad.install()
        for name in "value", "redirect":
            try:
                __import__(f"micrograd.{name}")
            except ModuleNotFoundError as error:
                print(error)
    """
    says = "No module named 'micrograd.{}'; 'micrograd' is not a package\n"
    assert python("-c", dedent(code)) == (says.format("value") + says.format("redirect"), "", 0)


def test_scripts_and_modules_get_fastgrad(real, folder):
    write(folder / "script.py", "from micrograd.engine import Value; print(repr(Value(2) * 3))")
    for args in ["script.py"], ["-m", "script"]:
        assert python("-m", "fastgrad", *args) == ("Value(data=6, grad=0)\n", "", 0)


@pytest.mark.parametrize("place", ["micrograd/engine.py", "work/micrograd/engine.py"])
def test_a_micrograd_beside_the_program_is_its_own(real, folder, place):
    write(folder / place, "Value = 'my Value'")
    write(folder / place.replace("engine", "__init__"), "")
    script = folder / place.replace("micrograd/engine.py", "script.py")
    write(script, "from micrograd.engine import Value; print(Value)")
    name = str(script.relative_to(folder))
    runs = [[name]] if "/" in name else [[name], ["-m", "script"]]
    for args in runs:
        run = python("-m", "fastgrad", *args)
        assert (run.out, run.status) == ("my Value\n", 0)
        said = f"fastgrad: micrograd in {script.parent} left as written: it is not the original\n"
        assert run.err == said
        assert python("-m", "fastgrad", "--quiet", *args) == ("my Value\n", "", 0)


def test_micrograds_own_text_beside_the_program_is_redirected(folder):
    original = Path(importlib.util.find_spec("micrograd").origin).parent
    shutil.copytree(original, folder / "micrograd")
    write(folder / "data/micrograd/moons.csv", "no package")
    write(folder / "script.py", "from micrograd.engine import Value; print(Value.__module__)")
    write(folder / "data/script.py", "from micrograd.nn import MLP; print(MLP.__module__)")
    assert python("-m", "fastgrad", "script.py") == ("fastgrad.engine\n", "", 0)
    assert python("-m", "fastgrad", "data/script.py") == ("fastgrad.nn\n", "", 0)
    engine = folder / "micrograd/engine.py"
    engine.write_text(engine.read_text().replace("out.data > 0", "out.data >= 0"))
    assert python("-m", "fastgrad", "--quiet", "script.py") == ("micrograd.engine\n", "", 0)


# ---- scripts: {name: (exit status, code)}

SCRIPTS = {
    "globals": (
        0,
        """
        'A docstring.'
        from __future__ import annotations
        import sys
        main = sys.modules["__main__"]
        print(vars(main) is globals(), list(globals()))
        print(__name__, __doc__, __file__, __package__, __spec__, __cached__, __annotations__)
        print(__builtins__, type(__loader__).__name__, __loader__.name, __loader__.path)
        print(sys.argv, sys.path[0], sys.exc_info(), sys.excepthook is sys.__excepthook__)
        """,
    ),
    "stdin": (0, "import sys; print(input()); print(sys.stdin.readlines())"),
    "warning": (0, "import warnings\nprint(1 is 1)\nwarnings.warn('careful')"),
    "exit_number": (3, "import sys; sys.exit(3)"),
    "exit_text": (1, "raise SystemExit('text')"),
    "exit_late": (
        5,
        """
        import atexit, sys, threading
        answer = 42
        def late(): print("thread", answer, __name__)
        atexit.register(lambda: print("atexit", answer, sys.excepthook is sys.__excepthook__))
        threading.Timer(0.1, late).start()
        sys.exit(5)
        """,
    ),
    "uncaught": (
        1,
        """
        def f(x):
            return 1 / x
        f(0)
        """,
    ),
    "chained": (
        1,
        """
        def f(x):
            try:
                return 1 / x
            except ZeroDivisionError as error:
                raise ValueError("zero") from error
        try:
            f(0)
        except ValueError:
            raise KeyError("unexpected")
        """,
    ),
    "group": (
        1,
        """
        def fails(n):
            raise ValueError(n)
        errors = []
        for n in range(2):
            try:
                fails(n)
            except ValueError as error:
                errors.append(error)
        raise ExceptionGroup("two", errors)
        """,
    ),
    "no_traceback": (1, "raise KeyError('k').with_traceback(None) from None"),
    "base_exception": (1, "class Stop(BaseException): pass\nraise Stop"),
    "interrupt": (-signal.SIGINT, "def f():\n    raise KeyboardInterrupt\nf()"),
    "own_hook": (
        1,
        """
        import atexit, sys, traceback
        def hook(kind, error, tb):
            print("hook", kind, error, error.__traceback__ is tb is sys.last_traceback)
            traceback.print_tb(tb)
            print(sys.excepthook is hook)
        sys.excepthook = hook
        atexit.register(lambda: print(sys.excepthook is hook))
        def f():
            raise ValueError("seen by the hook")
        f()
        """,
    ),
    "exit_from_hook": (
        7,
        """
        import sys
        sys.excepthook = lambda *error: sys.exit(7)
        raise ValueError
        """,
    ),
    "thread": (
        0,
        """
        import threading
        def f():
            raise ValueError("in a thread")
        thread = threading.Thread(target=f, name="t")
        thread.start()
        thread.join()
        """,
    ),
    "pickle": (
        0,
        """
        import copy, pickle
        class Point:
            def __init__(self, x):
                self.x = x
        p = pickle.loads(pickle.dumps(Point(3)))
        print(type(p) is Point, p.x, copy.deepcopy(p).x, Point.__module__)
        """,
    ),
    "syntax": (1, "def f():\n    return 1 +\n"),
    "indentation": (1, "def f():\nreturn 1\n"),
    "return_outside": (1, "x = 1\nreturn x\n"),
    "unclosed": (1, "x = (1,\n"),
    "imports_broken": (1, "import broken"),
    "warning_is_error": (1, "import warnings\nwarnings.simplefilter('error')\nwarnings.warn('w')"),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(folder, name):
    status, code = SCRIPTS[name]
    write(folder / "broken.py", "x = = 1\n")
    write(folder / "script.py", code)
    run = run_by_both("script.py", "--help", "-m", "demo", "a b", "")
    assert run.status == status, run.err


@pytest.mark.parametrize(
    "source",
    [
        b"# -*- coding: latin-1 -*-\nprint(ascii('\xe9'))\nraise ValueError('\xe9')\n",
        b"\xef\xbb\xbfprint(ascii('\xc3\xa9'))\r\nraise ValueError('\xc3\xa9')\r\n",
    ],
    ids=["latin-1", "utf-8 with a byte order mark"],
)
def test_source_encoding(folder, source):
    (folder / "script.py").write_bytes(source)
    run = run_by_both("script.py")
    assert (run.out, run.status) == ("'\\xe9'\n", 1)


def test_undecodable_source_is_a_syntax_error(folder):
    (folder / "script.py").write_bytes(b"text = '\xe9'\n")
    run = python("-m", "fastgrad", "script.py")
    assert (run.out, run.status) == ("", 1)
    assert run.err.startswith(f'  File "{folder / "script.py"}", line 1\n')
    assert "SyntaxError: (unicode error) 'utf-8' codec can't decode byte 0xe9" in run.err


def test_another_exception_than_the_programs_is_shown_whole(folder):
    write(folder / "script.py", "1 / 0")
    code = """
        from fastgrad.redirect import run_script
        try:
            run_script("script.py")
        except ZeroDivisionError:
            pass
        raise KeyError('later')
    """
    assert python("-c", dedent(code)) == python("-c", "\n" * 6 + "raise KeyError('later')")


# ---- where the program is, and what is first on its path

WHERE = "import sys; print(__file__, sys.argv, sys.path[:2]); import beside; 1 / 0"


@pytest.mark.parametrize("path", ["./a/script.py", "a/../a/script.py", "link.py", "a", "./a/"])
@pytest.mark.parametrize("flags", [(), ("-P",)], ids=["", "-P"])
def test_path(folder, path, flags):
    for name in "script", "__main__":
        write(folder / f"a/{name}.py", WHERE)
    write(folder / "a/beside.py", "print('beside')")
    (folder / "link.py").symlink_to("a/script.py")
    run = run_by_both(path, "x", flags=flags)
    # Under -P a script cannot import its neighbour, but what runs as a directory can.
    assert run.out.endswith("beside\n") == (not flags or path in ("a", "./a/"))
    assert run.status == 1


def test_absolute_path_and_no_bytecode(folder):
    write(folder / "a/script.py", WHERE)
    assert run_by_both(str(folder / "a/script.py")).status == 1
    assert [entry.name for entry in (folder / "a").iterdir()] == ["script.py"]


def test_zip_file(folder):
    with zipfile.ZipFile("app.zip", "w") as archive:
        archive.writestr("__main__.py", WHERE)
        archive.writestr("beside.py", "print('beside')")
    run = run_by_both("app.zip", "x")
    assert run.out.endswith("beside\n")
    assert "ZeroDivisionError" in run.err


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("missing.py", 2, "can't open file"),
        ("file/missing.py", 2, "Not a directory"),
        ("empty", 1, "can't find '__main__' module in"),
    ],
)
def test_nothing_to_run(folder, path, status, message):
    (folder / "file").touch()
    (folder / "empty").mkdir()
    run = run_by_both(path)
    assert (run.out, run.status) == ("", status)
    assert message in run.err


# ---- modules


@pytest.fixture
def package(folder):
    write(folder / "pkg/__init__.py", "import sys; print(__name__, sys.argv)")
    write(
        folder / "pkg/__main__.py",
        """
        import sys
        from . import mod
        print(__name__, __file__, __package__, __spec__.name, sys.argv, sys.path[0])
        print(sys.modules["__main__"].mod is mod)
        mod.fail()
        """,
    )
    write(folder / "pkg/mod.py", "def fail():\n    raise ValueError(__name__)")
    write(folder / "pkg/broken/__init__.py", "1 / 0")
    write(folder / "pkg/broken/mod.py", "")
    (folder / "bare").mkdir()


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("pkg", 1, "ValueError: pkg.mod"),
        ("pkg.mod", 0, ""),
        ("pkg.broken.mod", 1, "ZeroDivisionError"),
        ("bare", 1, "No module named bare.__main__"),
        ("missing", 1, "No module named missing"),
        ("pkg.mod.py", 1, "Try using 'pkg.mod' instead of 'pkg.mod.py'"),
        ("json.tool", 2, "unrecognized arguments: --help-me"),
    ],
)
def test_module(package, name, status, message):
    run = run_by_both("-m", name, "--help-me", "-m")
    assert run.status == status
    assert message in run.err


# ---- multiprocessing


@pytest.mark.parametrize("args", [["script.py"], ["-m", "script"]], ids=["script", "module"])
def test_spawned_processes_are_redirected(real, folder, args):
    write(
        folder / "script.py",
        """
        import sys
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context
        from micrograd.engine import Value

        class Box:
            def __init__(self, x):
                self.x = x

        def double(box):
            return Box(box.x * 2), __name__, Value.__module__, sys.argv[1:]

        def spawn(f, *args):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                return pool.submit(f, *args).result()

        if __name__ == "__main__":
            for box, *rest in spawn(double, Box(3)), spawn(spawn, double, Box(4)):
                print(type(box) is Box, box.x, *rest)
        """,
    )
    child = "True 6 __mp_main__ fastgrad.engine ['x']\n"
    grandchild = "True 8 __mp_main__ fastgrad.engine ['x']\n"
    assert python("-m", "fastgrad", *args, "x") == (child + grandchild, "", 0)


# ---- the command line


def test_no_arguments_print_the_usage():
    run = python("-m", "fastgrad")
    assert (run.out, run.status) == ("", 2)
    assert run.err.startswith("usage: python -m fastgrad [options] SCRIPT.py [args] ")


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(option):
    run = python("-m", "fastgrad", option)
    assert (run.err, run.status) == ("", 0)
    assert run.out == python("-m", "fastgrad")[1]


def test_version():
    assert python("-m", "fastgrad", "--version") == (f"fastgrad {fastgrad.__version__}\n", "", 0)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-m"], "python -m fastgrad: -m needs the name of a module\n"),
        (["--fast", "script.py"], "python -m fastgrad: no option --fast\n"),
        (["--quiet", "--fast"], "python -m fastgrad: no option --fast\n"),
        (
            ["--compare"],
            "python -m fastgrad: --compare needs a script, a notebook or -m MODULE after it\n",
        ),
    ],
)
def test_bad_command_line(args, message):
    run = python("-m", "fastgrad", *args)
    assert (run.out, run.status) == ("", 2)
    assert run.err.startswith("usage: ")
    assert run.err.endswith(message)


def test_start_up_imports_nothing_heavy(folder):
    write(folder / "script.py", "import sys; print(*sys.modules)")
    modules = set(python("-m", "fastgrad", "script.py")[0].split())
    with_numpy = set(python("-c", "import numpy, sys; print(*sys.modules)")[0].split())
    heavy = {"argparse", "multiprocessing", "subprocess", "matplotlib", "tqdm", "fastgrad.demo"}
    assert "fastgrad.engine" in modules
    assert not (modules - with_numpy) & heavy
