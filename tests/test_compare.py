"""``python -m fastgrad --compare`` tells outputs that agree from those that do not.

What agrees is tested on `compare_outputs`; the command is run on programs that are made to
differ by looking where ``Value`` is from. Times are never compared here, only read.
"""

import re
import subprocess
import sys
from textwrap import dedent

import pytest

from fastgrad.compare import compare_outputs


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current directory, far from any source tree."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- what agrees


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        ("0.5", "0.50000001"),
        ("[-1.5e-07, +2]", "[-1.50000001e-07, +2.0000001]"),
        ("grad=0)", "grad=0.0)"),
        ("grad=0.0", "grad=-3e-13"),
        ("[1. 2.]", "[1.0000001 2.]"),
        ("10000000000000000", "1e+16"),
        ("took 0.5s", "took 0.50000001s"),
        ("x=.5,y=-.5", "x=.50000001,y=-.50000001"),
        ("1.5/2.5", "1.50000001/2.5"),
        ("12:30:15.123456", "12:30:15.123457"),
        ("It was 0.5.", "It was 0.5."),
        ("nan -inf", "nan -inf"),
        ("<__main__.Value object at 0x7f0c8a2b1d90>", "<__main__.Value object at 0x55aB>"),
        ("", ""),
    ],
)
def test_agree(expected, got):
    assert not compare_outputs(expected, got).difference
    assert not compare_outputs(got, expected).difference


@pytest.mark.parametrize(
    ("expected", "got", "words"),
    [
        ("0.5", "0.500005", "got 0.500005, expected 0.5"),
        ("loss -0.5", "loss 0.5", "got 0.5, expected -0.5"),
        ("1e-11", "0.0", "got 0.0, expected 1e-11"),
        ("step 3 of 7", "step 4 of 7", "got 4, expected 3"),
        ("nan", "0.5", "got 0.5, expected nan"),
        ("0.5", "nan", "got nan, expected 0.5"),
        ("inf", "-inf", "got -inf, expected inf"),
        ("9" * 400, "inf", f"got inf, expected {'9' * 400}"),
        ("a True b", "a False b", "got 'False', expected 'True'"),
        ("0.5", "np.float64(0.5)", "got 'np.float64(0.5)', expected '0.5'"),
        ("grad=None", "grad=0.5", "got 'grad=0.5', expected 'grad=None'"),
        ("a b", "a  b", "got ' b', expected 'b'"),
        ("loss", "loss 0.5", "got 'loss 0.5', expected 'loss'"),
        ("1 2", "1 2 3", "got '2 3', expected '2'"),
        ("x1000000", "x1000001", "got 'x1000001', expected 'x1000000'"),
        ("3000000rd", "3000001rd", "got '3000001rd', expected '3000000rd'"),
        ("0xff", "0xfe", "got '0xfe', expected '0xff'"),
        ("v1.2.3000000", "v1.2.3000001", "got 'v1.2.3000001', expected 'v1.2.3000000'"),
        ("2.0.3000000", "2.0.3000001", "got '2.0.3000001', expected '2.0.3000000'"),
        ("2024-01-02", "2024-1-02", "got '2024-1-02', expected '2024-01-02'"),
        ("12:05", "12:5", "got '12:5', expected '12:05'"),
        ("12e4567890", "13e4567890", "got '13e4567890', expected '12e4567890'"),
    ],
)
def test_differ(expected, got, words):
    assert compare_outputs(expected, got).difference == f"line 1: {words}"


@pytest.mark.parametrize(
    ("expected", "got", "difference"),
    [
        ("a\nb\nc\n", "a\nB\nC\n", "line 2: got 'B', expected 'b'"),
        ("a\n", "a\n\n", "line 2: got '\\n', expected the end"),
        ("a\nb", "a\n", "line 2: got the end, expected 'b'"),
        ("a\n", "a", "line 1: got 'a', expected 'a\\n'"),
        ("a\n\nb\n", "a\nb\n", "line 2: got 'b', expected ''"),
        ("a\fb\n", "a\fc\n", "line 1: got 'a\\x0cc', expected 'a\\x0cb'"),
    ],
)
def test_the_first_line_that_differs_is_found(expected, got, difference):
    assert compare_outputs(expected, got).difference == difference


def test_lines_and_numbers_are_counted():
    output = "step 1 loss 0.5\nx1 is 2.5 on 2024-01-02\n"
    assert compare_outputs(output, output)[:2] == (2, 3)


def test_of_long_lines_the_part_that_differs_is_shown():
    found = compare_outputs("a " * 10**5 + "x" + "b" * 10**5, "a " * 10**5 + "y" + "b" * 10**5)
    start, end = "a " * 15, "b" * 29
    assert found.expected_line == f"...'{start}x{end}'..."
    assert found.got_line == f"...'{start}y{end}'..."
    assert found.difference == f"line 1: got 'y{end * 2}b'..., expected 'x{end * 2}b'..."


# ---- the command


class Report:
    """What ``python -m fastgrad --compare`` says, with every time and ratio as ``N``."""

    def __init__(self, *program, stdin=""):
        command = [sys.executable, "-m", "fastgrad", "--compare", *program]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        self.status, self.err, self.text = done.returncode, done.stderr, done.stdout
        lines = re.sub(r" +[\d,.]+ s\b| +[\d,.]+x|\([\d,.]+x", " N", done.stdout).splitlines()
        self.times = [line for line in lines if " N" in line]
        self.rest = [" ".join(line.split()) for line in lines if " N" not in line]


def write(path, code):
    path.write_text(dedent(code), encoding="utf-8")


IMPORTER = """
    from micrograd.engine import Value
    x = Value(2.0)
    y = (x * 3 + 1).relu()
    y.backward()
    print(y, x.grad)
    print(Value)
"""
FAST = """
import sys
from micrograd.engine import Value
fast = Value.__module__ == "fastgrad.engine"
"""


def test_a_micrograd_importer_agrees(folder):
    write(folder / "script.py", IMPORTER.replace("print(Value)", ""))
    report = Report("script.py")
    assert (report.status, report.err) == (0, "")
    assert report.rest == ["outputs agree (1 line, 3 numbers compared)"]


def test_times_and_ratios_are_aligned(folder):
    write(folder / "script.py", "print(0.5)")
    lines = Report("script.py").text.splitlines()
    number, ratio = r" *[\d,.]+ s", r"[\d,.]+x"
    for line, row in zip(
        lines,
        [
            r"outputs             agree \(1 line, 1 number compared\)",
            rf"as written          {number}",
            rf"as written, gc off  {number}   {ratio}",
            rf"accelerated         {number}   {ratio} \({ratio} against gc off\)",
        ],
        strict=True,
    ):
        assert re.fullmatch(row, line), line


def test_lines_of_the_runner_are_shown(folder):
    write(
        folder / "script.py",
        FAST
        + "print('noise', file=sys.stderr)\n"
        + "if fast: print('fastgrad: class Value (line 12) replaced', file=sys.stderr)",
    )
    report = Report("script.py")
    assert report.status == 0
    assert report.rest[1:] == ["fastgrad: class Value (line 12) replaced"]


@pytest.mark.parametrize(("noise", "status"), [(1e-8, 0), (1e-5, 1)])
def test_numbers_agree_within_1e_6(folder, noise, status):
    write(folder / "script.py", FAST + f"print('loss', 0.5 * (1 + {noise} * fast))")
    report = Report("script.py")
    assert report.status == status
    if status:
        assert report.rest == [
            "outputs differ at line 1: got 0.500005, expected 0.5",
            "as written 'loss 0.5'",
            "accelerated 'loss 0.500005'",
        ]


def test_text_is_compared_exactly(folder):
    write(folder / "script.py", IMPORTER)
    report = Report("script.py")
    assert report.status == 1
    assert report.rest == [
        "outputs differ at line 2: "
        "got \"'fastgrad.engine.Value'>\", expected \"'micrograd.engine.Value'>\"",
        "as written \"<class 'micrograd.engine.Value'>\"",
        "accelerated \"<class 'fastgrad.engine.Value'>\"",
    ]


def test_addresses_and_sets_of_strings_agree(folder):
    write(folder / "script.py", "print(object(), {'a', 'b', 'c', 'd', 'e', 'f'})")
    assert Report("script.py").status == 0


def test_a_program_that_differs_by_itself_is_told(folder):
    write(folder / "script.py", "import os; print('process', os.getpid())")
    report = Report("script.py")
    assert report.status == 1
    says = r"The two runs as written differ too, at line 1: got \d+, expected \d+\."
    assert re.fullmatch(says, report.rest[-2])
    assert report.rest[-1] == "Does the program print times, or random numbers without a seed?"


def test_exit_status_is_compared(folder):
    write(folder / "script.py", FAST + "sys.exit('no luck' if fast else 0)")
    report = Report("script.py")
    assert report.status == 1
    assert report.rest == [
        "outputs agree (0 lines, 0 numbers compared)",
        "exit status differs: got 1, expected 0",
        "accelerated: exit status 1, no luck",
    ]


def test_programs_that_fail_alike_agree(folder):
    write(folder / "script.py", "print(1)\n1 / 0")
    report = Report("script.py")
    assert report.status == 0
    assert report.rest == [
        "outputs agree (1 line, 1 number compared)",
        "exit status agrees (1)",
        "as written: exit status 1, ZeroDivisionError: division by zero",
        "as written, gc off: exit status 1, ZeroDivisionError: division by zero",
        "accelerated: exit status 1, ZeroDivisionError: division by zero",
    ]


def test_each_run_gets_stdin_arguments_and_a_collector_as_said(folder):
    code = """
with open("seen.txt", "a") as file:
    print(input(), *sys.argv, gc.isenabled(), fast, file=file)
"""
    write(folder / "script.py", "import gc\n" + FAST + code)
    assert Report("script.py", "-m", "x", stdin="hello\n").status == 0
    assert (folder / "seen.txt").read_text().splitlines() == [
        "hello script.py -m x True False",
        "hello script.py -m x False False",
        "hello script.py -m x True True",
    ]


def test_modules_are_compared(folder):
    write(folder / "script.py", "import sys; print(__name__, sys.argv[1:])")
    report = Report("-m", "script", "x")
    assert report.status == 0
    assert report.rest == ["outputs agree (1 line, 0 numbers compared)"]


def test_output_that_is_not_text_is_compared(folder):
    write(folder / "script.py", FAST + r"sys.stdout.buffer.write(b'\xff' if fast else b'\xfe')")
    report = Report("script.py")
    assert report.status == 1
    assert report.rest[0] == r"outputs differ at line 1: got '\\xff', expected '\\xfe'"


def test_a_script_that_does_not_exist_is_told():
    report = Report("missing.py")
    assert (report.status, report.text) == (2, "")
    assert report.err == (
        "python -m fastgrad --compare: "
        "got 'missing.py', expected a script or notebook; check its path\n"
    )


def test_ctrl_c_stops_it(folder):
    code = "import os, signal, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(600)"
    write(folder / "script.py", code)
    report = Report("script.py")
    assert (report.status, report.text) == (130, "")
    assert report.err == "python -m fastgrad --compare: interrupted\n"
