"""Run the fuzzers for as long as you like: ``python tests/fuzz.py --minutes 60``.

Each round has a seed of its own; what failed is listed at the end, as commands that repeat it.
"""

import argparse
import gc
import random
import time
import traceback

from fuzz_eager import EagerMachine
from fuzz_programs import ProgramMachine
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

MACHINES = {"eager": EagerMachine, "programs": ProgramMachine}


def run(name, number, examples, **options):
    """Let a machine run that many examples, drawn from the seed `number`."""
    chosen = settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        print_blob=True,
        report_multiple_bugs=False,
        **options,
    )
    try:
        machine = seed(number)(type(name, (MACHINES[name],), {}))
        run_state_machine_as_test(machine, settings=chosen)
    finally:
        gc.unfreeze()


def command(name, number, examples):
    return f"python tests/fuzz.py {name} --seed {number} --examples {examples} --rounds 1"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("machines", nargs="*", default=list(MACHINES), metavar="eager | programs")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=10**9, help="at most")
    parser.add_argument("--examples", type=int, default=100, help="in a round, 100 unless told")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    end, failures, rounds = time.monotonic() + 60 * options.minutes, [], 0
    while rounds < options.rounds and time.monotonic() < end:
        for name in options.machines:
            try:
                run(name, options.seed + rounds, options.examples)
            except Exception:
                traceback.print_exc()
                failures.append(command(name, options.seed + rounds, options.examples))
        rounds += 1
    for name in options.machines:
        examples = rounds * options.examples
        print(f"{name}: {rounds} rounds, {examples} examples, {MACHINES[name].steps} steps")
    print(f"{len(failures)} failures", *failures, sep="\n")
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
