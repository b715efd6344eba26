"""The command line, ``python -m fastgrad``: which runner gets which arguments, nothing else.

Everything after the script or module is the program's own, so options are taken one by one
here; argparse would try to read them all.
"""

import sys

import fastgrad
from fastgrad.redirect import run_module, run_script

USAGE = """\
usage: python -m fastgrad SCRIPT.py [args]   run a micrograd script on fastgrad
       python -m fastgrad -m MODULE [args]   run a module, as python -m does
       python -m fastgrad demo [options]     train a classifier; see demo --help
       python -m fastgrad --help | --version

Everything after SCRIPT.py or MODULE is passed on to it. A script in a file named
"demo" is run as ./demo.
"""


def main(args: list[str]) -> int:
    """Do what the command line `args` says and return the exit status."""
    match args:
        case ["-h" | "--help", *_]:
            print(USAGE, end="")
        case ["--version", *_]:
            print(f"fastgrad {fastgrad.__version__}")
        case ["demo", *options]:
            from fastgrad.demo import main as demo

            demo(options)
        case ["-m", name, *rest]:
            run_module(name, rest)
        case [option, *_] if option.startswith("-"):
            need = "-m needs the name of a module" if option == "-m" else f"no option {option}"
            print(f"{USAGE}\npython -m fastgrad: {need}", file=sys.stderr)
            return 2
        case [path, *rest]:
            run_script(path, rest)
        case []:
            print(USAGE, end="", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
