"""The extensions of fastgrad; FASTGRAD_DEBUG=1 builds them with checks and symbols."""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("FASTGRAD_DEBUG") == "1"
# Results must equal micrograd's to the last bit: no contraction to fused multiply-add, and pow
# stays libm's (gcc would turn pow(x, 2.0) into x * x, which rounds differently).  A sweep's
# switch as compares takes 5 ns an entry; as an indirect jump, often mispredicted, up to 13.
FLAGS = ["-ffp-contract=off", "-fno-builtin-pow", "-fno-jump-tables"]
FLAGS += ["-O1", "-g", "-UNDEBUG"] if DEBUG else ["-O3"]

# Loops over lanes and over parameters become vectors only where no operation can trap or set
# errno: no bits change.
LANES = ["-fno-trapping-math", "-fno-math-errno", "-pthread"]
LOOPS = ("replay", "descent")
KERNELS = ["fastgrad/kernels/replay_base.c", "fastgrad/kernels/replay_avx2.c"]

extensions = [
    Extension(
        f"fastgrad.{name}",
        [f"fastgrad/{name}.pyx", *(KERNELS if name == "replay" else [])],
        depends=[str(header) for header in Path("fastgrad/kernels").glob("*.h")],
        include_dirs=["fastgrad"],
        define_macros=[("CYTHON_USE_TYPE_SPECS", "1")],  # Value becomes an open type
        extra_compile_args=[] if sys.platform == "win32" else FLAGS + LANES * (name in LOOPS),
        extra_link_args=["-pthread"] if sys.platform == "linux" else [],
    )
    for name in (
        *("tape", "trace", "contexts", "dialect", "record", "sweep", "operators", "value"),
        *("layer", "row", "formulas", "choices", "functional", "recording", "words"),
        *("nodes", "number", "fuse", "order", "uniforms", "plan"),
        *("batch", "examine", "slots", "replay", "optimizer", "descent", "clip", "look"),
    )
]
directives = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": not DEBUG,
    "embedsignature": True,
    "auto_pickle": False,  # slots mean nothing in another process
}
setup(ext_modules=cythonize(extensions, build_dir="build", compiler_directives=directives))
