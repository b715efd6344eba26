"""``python -m fastgrad --compare PROGRAM``: does it print the same, and how much faster?

What lives here: three runs of one program in processes of their own, as written, as written with
the garbage collector off, and accelerated; and the report on their outputs and wall times.

Invariant: nothing but fastgrad differs between the first run and the last. They get the same
arguments, directory, stdin and seed of hashes, and follow one another, so that none takes time
from another.

Limitations: one run each, so times below a second are mostly start-up. The program's files are
written three times over. It finds stdin empty where that is a terminal: pipe its input in.
"""

import io
import math
import os
import re
import subprocess
import sys
import time
from itertools import zip_longest
from typing import NamedTuple

WRITTEN, GC_OFF, ACCELERATED = "as written", "as written, gc off", "accelerated"
WIDTH = 60  # characters shown of a line or word that differs

# Any two runs differ in where objects lie.
_ADDRESS = re.compile(r"(?<= at )0x[0-9a-fA-F]++")
# Only what can be off by rounding: a letter may follow "0.5s" but not "3rd" or "12ab", and whole
# numbers in a row are a date, a time or a range. In versions and names no digits are numbers.
_NUMBER = re.compile(
    r"""((?<![\w.]) [+-]?+ (?:
        (?: \d++ \. \d*+ | \. \d++ ) (?: [eE] [+-]?+ \d++ )?+ (?! \.\d )
      | \d++ [eE] [+-]?+ \d{1,3}+ (?! \w )
      | (?i: inf (?:inity)?+ | nan ) (?! \w )
      | (?<! \d[-/:] ) \d++ (?! \w | \.\d | [-/:]\d )
    ))""",
    re.VERBOSE,
)
_GC_OFF = (
    "import gc, sys; gc.disable(); from fastgrad.__main__ import main; sys.exit(main(sys.argv[1:]))"
)


class Comparison(NamedTuple):
    """What `compare_outputs` found: how much was compared, and the first difference or ``""``."""

    lines: int
    numbers: int
    difference: str
    expected_line: str
    got_line: str


class _Run(NamedTuple):
    out: str
    err: str
    status: int
    seconds: float


def main(program: list[str]) -> int:
    """Run a program as written and accelerated, and print how the runs compare.

    Parameters
    ----------
    program : list of str
        ``[script, *args]``, where the script may be a notebook, or ``["-m", module, *args]``.

    Returns
    -------
    int
        Exit status: 0 if the runs agree in output and exit status (be it a failure's), 1 if
        they do not, 2 if there is no such script, 130 after Ctrl-C.

    Raises
    ------
    OSError
        If no process can be started.

    Examples
    --------
    >>> main(["missing.py"])
    2
    """
    if program[0] != "-m" and not os.path.exists(program[0]):
        error = f"got {program[0]!r}, expected a script or notebook; check its path"
        print(f"python -m fastgrad --compare: {error}", file=sys.stderr)
        return 2
    try:
        stdin = _read_stdin()
        runs = {name: _run(name, command, stdin) for name, command in _commands(program).items()}
    except KeyboardInterrupt:
        _show_progress("")
        print("python -m fastgrad --compare: interrupted", file=sys.stderr)
        return 130
    _show_progress("")
    comparison = compare_outputs(runs[WRITTEN].out, runs[ACCELERATED].out)
    print("\n".join(_report(comparison, runs)))
    return int(bool(comparison.difference) or runs[WRITTEN].status != runs[ACCELERATED].status)


def compare_outputs(expected: str, got: str) -> Comparison:
    """Compare what two runs printed: text exactly, numbers within 1e-6 relative.

    Two numbers nearer than 1e-12 agree too, for sums that should be zero. Addresses, as in
    ``<Value object at 0x7f0c8a2b1d90>``, are taken as equal. It takes linear time.

    Parameters
    ----------
    expected, got : str
        The outputs, whole.

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError
        If an output is not a str.

    Examples
    --------
    >>> compare_outputs("loss 0.5, step 3", "loss 0.50000001, step 3").numbers
    2
    >>> compare_outputs("loss 0.52", "loss 0.51").difference
    'line 1: got 0.51, expected 0.52'
    >>> compare_outputs("0.5", "np.float64(0.5)").difference
    "line 1: got 'np.float64(0.5)', expected '0.5'"
    """
    # Not splitlines, to which form feeds and more end a line.
    outputs = [io.StringIO(_ADDRESS.sub("0x...", output)) for output in (expected, got)]
    lines = numbers = 0
    for lines, (want, have) in enumerate(zip_longest(*outputs), start=1):
        if want is None or have is None:
            ended = [_cut(line, 0) if line else "the end" for line in (want, have)]
            return _differ(lines, numbers, ended, ended)
        if want.endswith("\n") and have.endswith("\n"):
            want, have = want[:-1], have[:-1]
        pieces = _NUMBER.split(want)
        numbers += len(pieces) // 2
        if want == have:
            continue
        others = _NUMBER.split(have)
        # Texts at even places, numbers at odd ones.
        for place, (x, y) in enumerate(zip_longest(pieces, others, fillvalue="")):
            if x == y or (place % 2 and x and y and _close(x, y)):
                continue
            differing = (i for i, (c, d) in enumerate(zip(x, y)) if c != d)
            same = next(differing, min(len(x), len(y)))
            places = [
                (line, len("".join(parts[:place])) + same)
                for line, parts in ((want, pieces), (have, others))
            ]
            words = [x, y] if place % 2 and x and y else [_word(*spot) for spot in places]
            return _differ(lines, numbers, words, [_cut(*spot) for spot in places])
    return Comparison(lines, numbers, "", "", "")


def _differ(lines: int, numbers: int, words: list[str], excerpts: list[str]) -> Comparison:
    expected, got = words
    return Comparison(lines, numbers, f"line {lines}: got {got}, expected {expected}", *excerpts)


def _close(x: str, y: str) -> bool:
    """Say whether two numbers that are not spelled alike agree."""
    a, b = float(x), float(y)
    # An infinity here is an overflow or has another sign: equal ones are spelled alike.
    return math.isfinite(a) and math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-12)


def _word(line: str, at: int) -> str:
    start = line.rfind(" ", 0, at) + 1
    end = line.find(" ", at + 1)
    return _cut(line[start : end if end > 0 else len(line)], at - start)


def _cut(line: str, at: int) -> str:
    """Quote `line`, or of a long one the part about the place `at`."""
    start = max(0, min(at - WIDTH // 2, len(line) - WIDTH))
    before, after = "..." * (start > 0), "..." * (start + WIDTH < len(line))
    return f"{before}{line[start : start + WIDTH]!r}{after}"


def _read_stdin() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        return b""
    _show_progress("reading stdin ...")
    return sys.stdin.buffer.read()


def _show_progress(text: str) -> None:
    """Put `text` in the place of what this showed last, where someone may be looking."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _commands(program: list[str]) -> dict[str, list[str]]:
    runner = [sys.executable, "-m", "fastgrad"]
    notebook = program[0].endswith(".ipynb")  # which python itself cannot run
    return {
        WRITTEN: [*runner, "--as-written", *program] if notebook else [sys.executable, *program],
        GC_OFF: [sys.executable, "-c", _GC_OFF, "--as-written", *program],
        ACCELERATED: [*runner, *program],
    }


def _run(name: str, command: list[str], stdin: bytes) -> _Run:
    _show_progress(f"running {name} ...")
    environment = {"PYTHONHASHSEED": "0", **os.environ}
    start = time.perf_counter()
    done = subprocess.run(command, input=stdin, capture_output=True, env=environment, check=False)
    seconds = time.perf_counter() - start
    # A program may print any bytes, and the report must be able to show them.
    out, err = (stream.decode(errors="backslashreplace") for stream in (done.stdout, done.stderr))
    return _Run(out, err, done.returncode, seconds)


def _report(comparison: Comparison, runs: dict[str, _Run]) -> list[str]:
    written, gc_off, accelerated = runs[WRITTEN], runs[GC_OFF], runs[ACCELERATED]
    if comparison.difference:
        rows = [("outputs", f"differ at {comparison.difference}")]
        rows += [(f"  {WRITTEN}", comparison.expected_line)]
        rows += [(f"  {ACCELERATED}", comparison.got_line)]
        by_itself = compare_outputs(written.out, gc_off.out).difference
        if by_itself:
            rows += [("", f"The two runs as written differ too, at {by_itself}.")]
            rows += [("", "Does the program print times, or random numbers without a seed?")]
    else:
        compared = f"{_count(comparison.lines, 'line')}, {_count(comparison.numbers, 'number')}"
        rows = [("outputs", f"agree ({compared} compared)")]
    if accelerated.status != written.status:
        difference = f"got {accelerated.status}, expected {written.status}"
        rows += [("exit status", f"differs: {difference}")]
    elif written.status:
        rows += [("exit status", f"agrees ({written.status})")]
    times = [f"{run.seconds:,.2f} s" for run in (written, gc_off, accelerated)]
    ratios = [
        "",
        _ratio(written, gc_off),
        f"{_ratio(written, accelerated)} ({_ratio(gc_off, accelerated)} against gc off)",
    ]
    width = max(map(len, times))
    for name, seconds, ratio in zip(runs, times, ratios):
        rows += [(name, f"{seconds:>{width}}   {ratio}".rstrip())]
    lines = [f"{label:<{len(GC_OFF)}}  {text}" for label, text in rows]
    for name, run in runs.items():
        if run.status:
            last = run.err.strip().rpartition("\n")[2]
            lines.append(f"{name}: exit status {run.status}{last and ', '}{last}")
    return lines + [line for line in accelerated.err.split("\n") if line.startswith("fastgrad: ")]


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"


def _ratio(run: _Run, faster: _Run) -> str:
    times = run.seconds / faster.seconds
    return f"{times:.2g}x" if times < 9.95 else f"{times:,.0f}x"
