"""CasADi's generated C, built by gcc for this very processor; building it is not timed."""

import subprocess
import tempfile
from pathlib import Path

import casadi

from peers import casadi_vm


class Irregular(casadi_vm.Irregular):
    def built(self, sample):
        with tempfile.TemporaryDirectory() as folder:
            generator = casadi.CodeGenerator("sample.c")
            generator.add(sample)
            source = generator.generate(f"{folder}/")
            library = Path(folder, "sample.so")
            options = ["-O3", "-march=native", "-shared", "-fPIC"]
            subprocess.run(["gcc", *options, source, "-o", library, "-lm"], check=True)
            return casadi.external("sample", str(library))
