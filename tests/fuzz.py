"""Run the fuzzers for as long as you like: ``python tests/fuzz.py --minutes 60``.

Each round has a seed of its own, which is printed when it fails; ``--seed N --rounds 1`` repeats it.
"""

import argparse
import gc
import random
import time
import traceback

from fuzz_eager import EagerMachine
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

MACHINES = {"eager": EagerMachine}


def run(name, number, examples, steps=40, **options):
    """Let a machine run that many examples, drawn from the seed `number`."""
    machine = seed(number)(type(name, (MACHINES[name],), {}))
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        report_multiple_bugs=False,
        **options,
    )
    try:
        run_state_machine_as_test(machine, settings=chosen)
    finally:
        gc.unfreeze()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("machines", nargs="*", default=list(MACHINES), choices=list(MACHINES))
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=10**9)
    parser.add_argument("--examples", type=int, default=100, help="of a round")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    end, failures, done = time.monotonic() + 60 * options.minutes, [], 0
    while done < options.rounds and time.monotonic() < end:
        for name in options.machines:
            number = options.seed + done
            try:
                run(name, number, options.examples, database=None)
            except Exception:
                traceback.print_exc()
                failures.append(f"{name} --seed {number} --rounds 1 --examples {options.examples}")
        done += 1
    for name in options.machines:
        print(f"{name}: {done * options.examples} examples, {MACHINES[name].steps} steps")
    print(*(f"failed: python tests/fuzz.py {failure}" for failure in failures), sep="\n")
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
