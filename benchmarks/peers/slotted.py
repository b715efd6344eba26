"""microgpt's Value in plain Python, slots and local gradients: that of the script."""

import math
import sys
from pathlib import Path

from benchmarks.peers.scalars import Numbers

SCRIPT = Path(__file__).parents[1] / "scripts" / "microgpt_script.py"


def class_of_script():
    source = SCRIPT.read_text(encoding="utf-8")
    start = source.index("class Value")
    names = {"math": math}
    exec(source[start : source.index("\n\n\n", start)], names)
    return names["Value"]


sys.setrecursionlimit(10**6)  # its backward recurses
engine = Numbers(class_of_script())
