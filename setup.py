"""The extensions of fastgrad; FASTGRAD_DEBUG=1 builds them with checks and symbols."""

import gzip
import os
import sys
import tarfile
import time
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.sdist import sdist

DEBUG = os.environ.get("FASTGRAD_DEBUG") == "1"
# Results must equal micrograd's to the last bit: no contraction to fused multiply-add, and pow
# stays libm's (gcc would turn pow(x, 2.0) into x * x, which rounds differently).  A sweep's
# switch as compares takes 5 ns an entry; as an indirect jump, often mispredicted, up to 13.
FLAGS = ["-ffp-contract=off", "-fno-builtin-pow", "-fno-jump-tables"]
# Python's own flags ask for symbols, which take half as long again to compile.
FLAGS += ["-O1", "-g", "-UNDEBUG"] if DEBUG else ["-O3", "-g0"]
# Loops over lanes and over parameters become vectors only where no operation can trap or set
# errno: no bits change.
LANES = [*FLAGS, "-fno-trapping-math", "-fno-math-errno", "-pthread"]
KERNELS = [f"fastgrad/kernels/replay_{kind}.c" for kind in ("base", "avx2", "avx512")]
extensions = [
    Extension(
        f"fastgrad.{name}",
        [f"fastgrad/{name}.pyx", *KERNELS * (name == "replay")],
        depends=glob("fastgrad/kernels/*.h"),
        include_dirs=["fastgrad"],
        define_macros=[("CYTHON_USE_TYPE_SPECS", "1")],  # Value becomes an open type
        extra_compile_args=[] if sys.platform == "win32" else flags,
        extra_link_args=["-pthread"] if sys.platform == "linux" else [],
    )
    # In the order of the build: replay takes longest, and the others are built beside it.
    for name, flags in (("replay", LANES), ("descent", LANES), ("*", FLAGS))
]
directives = {"boundscheck": DEBUG, "initializedcheck": DEBUG, "cdivision": not DEBUG}
directives |= {"language_level": 3, "wraparound": False}
# Methods check their self, and tell their signature.
directives |= {"binding": False, "embedsignature": True, "embedsignature.format": "clinic"}
directives |= {"auto_pickle": False}  # slots mean nothing in another process
directives |= {"freethreading_compatible": False}  # the GIL guards the tape: it stays on


class PlainSdist(sdist):
    """Of the same files the same bytes, whoever has them where: setuptools cannot do it yet."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, **owner):
        made = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))

        def plain(member):
            member.mtime, member.mode = made, 0o755 if member.isdir() else 0o644
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            return member

        path = f"{base_name}.tar.gz"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with (
            gzip.GzipFile(path, "wb", mtime=made) as file,
            tarfile.open(fileobj=file, mode="w") as archive,
        ):
            archive.add(base_dir, filter=plain)
        return path


if __name__ == "__main__":  # cythonize's processes import this file
    jobs = {"nthreads": os.cpu_count(), "build_dir": "build"}
    modules = cythonize(extensions, compiler_directives=directives, **jobs)
    commands = {"sdist": PlainSdist}
    setup(ext_modules=modules, cmdclass=commands, options={"build_ext": {"parallel": True}})
