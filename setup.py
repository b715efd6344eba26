"""Extensions of fastgrad; everything else is in pyproject.toml.

``FASTGRAD_DEBUG=1`` builds with bounds checks, assertions and debug symbols.
"""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("FASTGRAD_DEBUG") == "1"
HEADERS = sorted(str(path) for path in Path("fastgrad").rglob("*.h"))
# Results must equal micrograd's to the last bit: no contraction to fused multiply-add, and pow
# stays libm's (gcc would turn pow(x, 2.0) into x * x, which rounds differently).  A sweep's
# switch as compares takes 5 ns an entry; as an indirect jump, often mispredicted, up to 13.
FLAGS = ["-ffp-contract=off", "-fno-builtin-pow", "-fno-jump-tables"]
FLAGS += ["-O1", "-g"] if DEBUG else ["-O3"]

setup(
    ext_modules=cythonize(
        [
            Extension(
                f"fastgrad.{name}",
                [f"fastgrad/{name}.pyx"],
                depends=HEADERS,
                include_dirs=["fastgrad"],
                define_macros=[("CYTHON_USE_TYPE_SPECS", "1")],
                extra_compile_args=[] if sys.platform == "win32" else FLAGS,
            )
            for name in ("tape", "record", "sweep", "operators", "value", "layer")
        ],
        build_dir="build",
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "cdivision": not DEBUG,
            "embedsignature": True,
        },
    )
)
