"""fastgrad's compiled programs."""

import numpy as np

import fastgrad
from benchmarks import irregular, microgpt, nets
from fastgrad import functional, nn
from fastgrad.engine import Value

FUNCTIONS = irregular.ARITHMETIC | {"relu": Value.relu, "tanh": Value.tanh, "exp": Value.exp}


class Compiled:
    """A compiled loss, what it is called with, and its parameters."""

    optimizer = None

    def __init__(self, loss, arguments, parameters):
        self.program = fastgrad.compile(loss)
        self.arguments = arguments
        self.parameters = parameters

    def gradient(self):
        value = self.program.backward(*self.arguments)
        grads = np.array([p.grad for p in self.parameters], float)
        for p in self.parameters:
            p.grad = 0
        return value, grads

    def step(self):
        return self.optimizer.minimize(self.program, *self.arguments)


class Training(Compiled):
    def __init__(self, net):
        fastgrad.set_num_threads(net.threads)
        model = nn.MLP(net.sizes[0], list(net.sizes[1:]))
        parameters = model.parameters()
        for p, number in zip(parameters, nets.flat(net.layers())):
            p.data = number

        def loss(x, y):
            scores = model(x)
            wrong = (1 + -y * scores).relu() if net.hinge else functional.cross_entropy(scores, y)
            if net.decay:
                return wrong + net.decay * sum(p * p for p in parameters)
            return wrong

        super().__init__(loss, net.data(), parameters)
        self.optimizer = fastgrad.optim.SGD(parameters, lr=net.rate)


class Irregular(Compiled):
    def __init__(self, program):
        fastgrad.set_num_threads(1)
        inputs, numbers = program.data()
        parameters = [Value(number) for number in numbers]
        ops = program.ops()
        super().__init__(
            lambda x: irregular.run(ops, x, parameters, FUNCTIONS)[-1], [inputs], parameters
        )

    def step(self):
        return self.program.value_and_grad(*self.arguments)[0]


class Microgpt(Compiled):
    def __init__(self, workload):
        fastgrad.set_num_threads(1)
        module = microgpt.example()
        model, parameters = microgpt.new_model(module)
        self.batches = [np.array([module.tokenise(name)]) for name in workload.names()]
        loss = microgpt.compiled_loss(module, model)
        super().__init__(loss, self.batches[:1], parameters)
        self.optimizer = fastgrad.optim.Adam(
            parameters, lr=workload.rate, betas=(0.85, 0.99), eps=1e-8
        )

    def step(self):
        value = super().step()
        self.batches.append(self.batches.pop(0))
        self.arguments = self.batches[:1]
        return value
