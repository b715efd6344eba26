"""C by hand, ``limit.c``, built by gcc for the net and for this very processor."""

import ctypes
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import nets

SOURCE = Path(__file__).parents[1] / "limit.c"
WIDTH = 8  # samples in the widest vector


class Training:
    def __init__(self, net):
        self.net = net
        samples = -(-net.batch // WIDTH) * WIDTH
        row = samples + WIDTH  # no power of 2, at which a cache's lines would collide
        x, labels = net.data()
        self.x = np.zeros((net.sizes[0], row))
        self.x[:, : net.batch] = x.T
        self.labels = labels.astype(float)
        self.parameters = nets.flat(net.layers())
        self.grads = np.zeros_like(self.parameters)
        macros = {
            "SIZES": f"{{{','.join(map(str, net.sizes))}}}",
            "BATCH": net.batch,
            "SAMPLES": samples,
            "ROW": row,
            "VALUES": sum(net.sizes[1:]),
            "PARAMETERS": len(self.parameters),
            "DECAY": net.decay,
        }
        self.call = built(macros).step
        self.call.restype = ctypes.c_double
        self.pointers = [
            ctypes.c_void_p(array.ctypes.data)
            for array in (self.parameters, self.grads, self.x, self.labels)
        ]
        self.rate = ctypes.c_double(net.rate)

    def gradient(self):
        return self.call(*self.pointers, ctypes.c_double(0)), self.grads.copy()

    def step(self):
        return self.call(*self.pointers, self.rate)


def built(macros):
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "limit.so")
        options = ["-O3", "-march=native", "-ffast-math", "-shared", "-fPIC"]
        defined = [f"-D{name}={value}" for name, value in macros.items()]
        subprocess.run(["gcc", *options, *defined, SOURCE, "-o", library, "-lm"], check=True)
        return ctypes.CDLL(str(library))
