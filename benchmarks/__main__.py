"""The command: see the package's docstring, and ``python -m benchmarks --help``."""

import argparse
import os
import platform
import re
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import fastgrad
from benchmarks import data, engines, promises, report
from benchmarks.contests import CONTESTS, quick
from benchmarks.session import Session, blas, process


def machine():
    """Processor, number of cores, system and Python, in a few words."""
    info = Path("/proc/cpuinfo")
    found = info.exists() and re.search(r"model name\s*: (.*)", info.read_text())
    processor = found[1] if found else platform.processor() or platform.machine()
    if info.exists():
        flags = re.search(r"flags\s*: (.*)", info.read_text())
        known = [name for name in ("avx512f", "avx2") if flags and name in flags[1].split()]
        processor += f" with {known[0]}" if known else ""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{processor}, {os.cpu_count()} cores, {platform.system()}, {python}"


def compiler():
    if not shutil.which("gcc"):
        return "no gcc"
    told = subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=True)
    return told.stdout.partition("\n")[0]


def surroundings(rounds, at_least):
    """What the data file holds of a session before its contests."""
    with process() as call:
        kernel = call(blas).result()
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        "machine": machine(),
        "fastgrad": fastgrad.__version__,
        "versions": engines.versions(),
        "blas": kernel,
        "compiler": compiler(),
        "rounds": rounds,
        "turn": at_least,
        "missing": {name: why for name in engines.ENGINES if (why := engines.missing(name))},
        "contests": [],
    }


def measure(found, contests):
    """Hold the contests, print them, and add them to a session's surroundings."""
    for name, why in found["missing"].items():
        print(f"skipped: {name}, as {why}")
    start = time.perf_counter()
    with Session(found["rounds"], found["turn"]) as session:
        for contest in contests:
            held = contest.held(session)
            found["contests"].append(held)
            print(f"\n{held['title']} (at {time.perf_counter() - start:.0f} s)")
            print(report.ranking(data.joined([held])))
            print(report.left_out(held, set(found["missing"].values())), flush=True)


def compare(sessions, others):
    """Print how sessions lie to the spread that others state."""
    for session in sessions:
        print(*data.differences(session, others[-1]), sep="\n")
        print(report.comparison(data.held(session, others)))


def write(sessions):
    report.write(sessions)
    try:
        from benchmarks import chart
    except ModuleNotFoundError:
        print("no chart, as matplotlib is not installed")
        return
    chart.draw(data.together(sessions))


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure fastgrad and its peers, and write docs/benchmarks.md, its data and "
        "chart, and the tables of README.md and docs/programs.md.",
    )
    parser.add_argument("--quick", action="store_true", help="less of it, printed and not written")
    parser.add_argument(
        "--only", metavar="KEY", help="contests whose key begins so, printed and not written"
    )
    parser.add_argument(
        "--compare", nargs="?", const="", metavar="FILE",
        help="print which ratios lie within the spread that docs/benchmarks.json states, of what "
        "is measured now and not written, or of another such file",
    )  # fmt: skip
    parser.add_argument(
        "--promises", nargs="?", const="", metavar="NAME", choices=["", *promises.PROMISES],
        help=f"print what is promised instead, all or one of {', '.join(promises.PROMISES)}",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, help="9, and 3 of a quick run")
    parser.add_argument(
        "--keep", type=int, metavar="N",
        help="sessions of the data file, its last, to put together with what is measured now (or "
        "with --redraw alone): none, and all with --redraw",
    )  # fmt: skip
    parser.add_argument("--redraw", action="store_true", help="write all again from the data file")
    options = parser.parse_args()
    if options.promises is not None:
        promises.show(options.promises)
        return
    stated = data.load()
    if options.compare:
        compare(data.load(options.compare), stated)
        return
    if options.redraw:
        write(stated[-(options.keep or 0) :])
        return
    quickly = options.quick
    contests = [
        contest
        for contest in (quick() if quickly else CONTESTS)
        if contest.key.startswith(options.only or "")
    ]
    at_least = 0.02 if quickly else 0.05  # seconds of a turn
    session = surroundings(options.rounds or (3 if quickly else 9), at_least)
    sessions = [*(stated[-options.keep :] if options.keep else []), session]
    try:
        data.together(sessions)
    except ValueError as error:
        parser.error(str(error))
    measure(session, contests)
    if options.compare is not None:
        compare([session], stated)
    elif not (quickly or options.only):
        write(sessions)


if __name__ == "__main__":
    main()
