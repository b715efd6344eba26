"""CasADi's generated C, built by gcc for this very processor; building it is not timed."""

import subprocess
import tempfile
from pathlib import Path

import casadi

from benchmarks.peers import casadi_vm


class Built:
    def built(self, function):
        with tempfile.TemporaryDirectory() as folder:
            generator = casadi.CodeGenerator("function.c")
            generator.add(function)
            source = generator.generate(f"{folder}/")
            library = Path(folder, "function.so")
            options = ["-O3", "-march=native", "-shared", "-fPIC"]
            subprocess.run(["gcc", *options, source, "-o", library, "-lm"], check=True)
            return casadi.external(function.name(), str(library))


class Irregular(Built, casadi_vm.Irregular):
    pass


class Training(Built, casadi_vm.Training):
    pass
