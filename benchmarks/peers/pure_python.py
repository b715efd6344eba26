"""Plain Python: the class Value that ``scripts/microgpt_script.py`` carries, in the example."""

import math
import sys
from pathlib import Path

import microgpt_program
import numpy as np

SCRIPT = Path(__file__).parents[1] / "scripts" / "microgpt_script.py"


def class_of_script():
    source = SCRIPT.read_text()
    start = source.index("class Value")
    names = {"math": math}
    exec(source[start : source.index("\n\n\n", start)], names)
    return names["Value"]


def softmax(logits):
    highest = max(logit.data for logit in logits)
    powers = [(logit - highest).exp() for logit in logits]
    total = sum(powers)
    return [power / total for power in powers]


class Microgpt:
    def __init__(self, workload):
        sys.setrecursionlimit(10**6)  # its backward recurses
        self.module = microgpt_program.example(Value=class_of_script(), softmax=softmax)
        self.model, self.parameters = microgpt_program.new_model(self.module)
        self.adam = self.module.Adam(self.parameters)
        self.rate = workload.rate
        self.names = workload.names()

    def backward(self):
        loss = self.module.loss_of(self.model, self.names[0])
        loss.backward()
        return loss.data

    def gradient(self):
        loss = self.backward()
        grads = np.array([p.grad for p in self.parameters], float)
        for p in self.parameters:
            p.grad = 0
        return loss, grads

    def step(self):
        loss = self.backward()
        self.adam.step(self.rate)
        self.names.append(self.names.pop(0))
        return loss
