"""The command line, ``python -m fastgrad``: which runner gets which arguments, nothing else.

Everything after the script or module is the program's own, so options are taken one by one
here; argparse would try to read them all.
"""

import sys

import fastgrad
from fastgrad.redirect import Manner, run_module, run_script

USAGE = """\
usage: python -m fastgrad [options] SCRIPT.py [args]   run a micrograd script on fastgrad
       python -m fastgrad [options] BOOK.ipynb [args]  run a notebook's code cells in order
       python -m fastgrad [options] -m MODULE [args]   run a module, as python -m does
       python -m fastgrad demo [options]               train a classifier; see demo --help
       python -m fastgrad --help | --version

`import micrograd` gives fastgrad. A class like micrograd's Value that the program defines
itself is replaced by fastgrad's if it is proven equal; stderr says whether it was.

  --quiet       do not say it
  --strict      end with status 1 where such a class is left as written
  --as-written  replace nothing, neither micrograd nor a class
  --compare     run it as written and accelerated; report on outputs and times

Everything after SCRIPT.py, BOOK.ipynb or MODULE is passed on to it. A script in a file
named "demo" is run as ./demo.
"""
MANNERS = {"--quiet": "quiet", "--strict": "strict", "--as-written": "as_written"}


def main(args: list[str]) -> int:
    """Do what the command line `args` says and return the exit status."""
    manner = Manner()
    while args and args[0] in MANNERS:
        manner = manner._replace(**{MANNERS[args[0]]: True})
        args = args[1:]
    match args:
        case ["-h" | "--help", *_]:
            print(USAGE, end="")
        case ["--version", *_]:
            print(f"fastgrad {fastgrad.__version__}")
        case ["demo", *options]:
            from fastgrad.demo import main as demo

            demo(options)
        case ["--compare", "-m", name, *rest]:
            from fastgrad.compare import main as compare

            return compare(["-m", name, *rest])
        case ["--compare", path, *rest] if not path.startswith("-"):
            from fastgrad.compare import main as compare

            return compare([path, *rest])
        case ["-m", name, *rest]:
            run_module(name, rest, manner)
        case [option, *_] if option.startswith("-"):
            needs = {
                "-m": "-m needs the name of a module",
                "--compare": "--compare needs a script, a notebook or -m MODULE after it",
            }
            need = needs.get(option, f"no option {option}")
            print(f"{USAGE}\npython -m fastgrad: {need}", file=sys.stderr)
            return 2
        case [path, *rest]:
            run_script(path, rest, manner)
        case []:
            print(USAGE, end="", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
