"""The command: see the package's docstring, and ``python -m benchmarks --help``."""

import argparse
import os
import platform
import re
import shutil
import subprocess
import time
from pathlib import Path

import fastgrad
from benchmarks import engines, promises, report
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


def measured(contests, rounds, at_least):
    """Hold the contests; returns what the data file holds."""
    with process() as call:
        kernel = call(blas).result()
    data = {
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
    for name, why in data["missing"].items():
        print(f"skipped: {name}, as {why}")
    start = time.perf_counter()
    with Session(rounds, at_least) as session:
        for contest in contests:
            held = contest.held(session)
            data["contests"].append(held)
            print(f"\n{held['title']} (at {time.perf_counter() - start:.0f} s)")
            print(report.ranking(held))
            print(report.left_out(held, set(data["missing"].values())), flush=True)
    return data


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
        "--promises", nargs="?", const="", metavar="NAME", choices=["", *promises.PROMISES],
        help=f"print what is promised instead, all or one of {', '.join(promises.PROMISES)}",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, help="9, and 3 of a quick run")
    parser.add_argument("--redraw", action="store_true", help="write all again from the data file")
    options = parser.parse_args()
    if options.promises is not None:
        promises.show(options.promises)
        return
    if options.redraw:
        data = report.load()
    else:
        contests = [
            contest
            for contest in (quick() if options.quick else CONTESTS)
            if contest.key.startswith(options.only or "")
        ]
        at_least = 0.02 if options.quick else 0.05  # seconds of a turn
        data = measured(contests, options.rounds or (3 if options.quick else 9), at_least)
        if options.quick or options.only:
            return
    report.write(data)
    try:
        from benchmarks import chart
    except ModuleNotFoundError:
        print("no chart, as matplotlib is not installed")
        return
    chart.draw(data)


if __name__ == "__main__":
    main()
