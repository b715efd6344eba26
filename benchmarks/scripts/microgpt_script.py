"""A character-level GPT on a slotted Value with local gradients, in the manner of microgpt.

    python benchmarks/scripts/microgpt_script.py

A workload, in one file as people write it: nothing in it knows fastgrad. The losses and a few
sampled names go to stdout, the median milliseconds a step to stderr.
"""

import math
import random
import statistics
import sys
import time

random.seed(42)


class Value:
    __slots__ = ("data", "grad", "_children", "_local_grads")

    def __init__(self, data, children=(), local_grads=()):
        self.data = data  # scalar value of this node
        self.grad = 0  # derivative of the loss w.r.t. this node
        self._children = children
        self._local_grads = local_grads  # derivative of this node w.r.t. each child

    def __add__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data + other.data, (self, other), (1, 1))

    def __mul__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, other):
        return Value(self.data**other, (self,), (other * self.data ** (other - 1),))

    def log(self):
        return Value(math.log(self.data), (self,), (1 / self.data,))

    def exp(self):
        return Value(math.exp(self.data), (self,), (math.exp(self.data),))

    def relu(self):
        return Value(max(0, self.data), (self,), (float(self.data > 0),))

    def __neg__(self):
        return self * -1

    def __radd__(self, other):
        return self + other

    def __sub__(self, other):
        return self + (-other)

    def __rsub__(self, other):
        return other + (-self)

    def __rmul__(self, other):
        return self * other

    def __truediv__(self, other):
        return self * other**-1

    def __rtruediv__(self, other):
        return other * self**-1

    def backward(self):
        topo = []
        visited = set()

        def build_topo(v):
            if v not in visited:
                visited.add(v)
                for child in v._children:
                    build_topo(child)
                topo.append(v)

        build_topo(self)
        self.grad = 1
        for v in reversed(topo):
            for child, local_grad in zip(v._children, v._local_grads):
                child.grad += local_grad * v.grad


# the data: names, and the characters they are made of
text = """
    anna ben clara david emma felix greta henry ida jonas karin leo maria nina oscar paula quentin
    rosa simon tessa ulrich vera walter xenia yvonne zoe alice bruno carla daniel elena frank
"""
docs = text.split()
random.shuffle(docs)
uchars = sorted(set("".join(docs)))
BOS = len(uchars)  # begins and ends each name
vocab_size = len(uchars) + 1
print(f"{len(docs)} names, vocabulary of {vocab_size}")

# the parameters
n_embd, n_head, n_layer, block_size = 16, 4, 1, 16
head_dim = n_embd // n_head


def matrix(nout, nin, std=0.08):
    return [[Value(random.gauss(0, std)) for _ in range(nin)] for _ in range(nout)]


state = {
    "wte": matrix(vocab_size, n_embd),
    "wpe": matrix(block_size, n_embd),
    "lm_head": matrix(vocab_size, n_embd),
}
for i in range(n_layer):
    for name in ("wq", "wk", "wv", "wo"):
        state[f"{name}{i}"] = matrix(n_embd, n_embd)
    state[f"fc1_{i}"] = matrix(4 * n_embd, n_embd)
    state[f"fc2_{i}"] = matrix(n_embd, 4 * n_embd)
params = [p for mat in state.values() for row in mat for p in row]
print(f"{len(params)} parameters")


# the model
def linear(x, w):
    return [sum(wi * xi for wi, xi in zip(row, x)) for row in w]


def softmax(logits):
    top = max(v.data for v in logits)
    exps = [(v - top).exp() for v in logits]
    total = sum(exps)
    return [e / total for e in exps]


def rmsnorm(x):
    ms = sum(xi * xi for xi in x) / len(x)
    scale = (ms + 1e-5) ** -0.5
    return [xi * scale for xi in x]


def gpt(token_id, pos_id, keys, values):
    x = [t + p for t, p in zip(state["wte"][token_id], state["wpe"][pos_id])]
    x = rmsnorm(x)
    for li in range(n_layer):
        residual = x
        x = rmsnorm(x)
        q = linear(x, state[f"wq{li}"])
        keys[li].append(linear(x, state[f"wk{li}"]))
        values[li].append(linear(x, state[f"wv{li}"]))
        mixed = []
        for h in range(n_head):
            part = slice(h * head_dim, (h + 1) * head_dim)
            k_h = [k[part] for k in keys[li]]
            v_h = [v[part] for v in values[li]]
            scores = [sum(a * b for a, b in zip(q[part], k)) / head_dim**0.5 for k in k_h]
            weights = softmax(scores)
            mixed += [sum(w * v[j] for w, v in zip(weights, v_h)) for j in range(head_dim)]
        x = linear(mixed, state[f"wo{li}"])
        x = [a + b for a, b in zip(x, residual)]
        residual = x
        x = rmsnorm(x)
        x = [xi.relu() for xi in linear(x, state[f"fc1_{li}"])]
        x = linear(x, state[f"fc2_{li}"])
        x = [a + b for a, b in zip(x, residual)]
    return linear(x, state["lm_head"])


# training, with Adam
learning_rate, beta1, beta2, eps = 0.01, 0.85, 0.99, 1e-8
m = [0.0] * len(params)
v = [0.0] * len(params)
num_steps = 20
seconds = []
for step in range(num_steps):
    start = time.perf_counter()
    doc = docs[step % len(docs)]
    tokens = [BOS] + [uchars.index(ch) for ch in doc] + [BOS]
    n = min(block_size, len(tokens) - 1)

    keys, values = [[] for _ in range(n_layer)], [[] for _ in range(n_layer)]
    losses = []
    for pos_id in range(n):
        probs = softmax(gpt(tokens[pos_id], pos_id, keys, values))
        losses.append(-probs[tokens[pos_id + 1]].log())
    loss = (1 / n) * sum(losses)
    loss.backward()

    lr_t = learning_rate * (1 - step / num_steps)
    for i, p in enumerate(params):
        m[i] = beta1 * m[i] + (1 - beta1) * p.grad
        v[i] = beta2 * v[i] + (1 - beta2) * p.grad**2
        m_hat = m[i] / (1 - beta1 ** (step + 1))
        v_hat = v[i] / (1 - beta2 ** (step + 1))
        p.data -= lr_t * m_hat / (v_hat**0.5 + eps)
        p.grad = 0

    seconds.append(time.perf_counter() - start)
    print(f"step {step + 1:4d} / {num_steps:4d} | loss {loss.data:.6f}")

# inference
temperature = 0.5
for sample in range(3):
    keys, values = [[] for _ in range(n_layer)], [[] for _ in range(n_layer)]
    token_id, name = BOS, ""
    for pos_id in range(block_size):
        logits = gpt(token_id, pos_id, keys, values)
        probs = softmax([logit / temperature for logit in logits])
        token_id = random.choices(range(vocab_size), weights=[p.data for p in probs])[0]
        if token_id == BOS:
            break
        name += uchars[token_id]
    print(f"sample {sample + 1}: {name}")

print(f"ms a step: {1000 * statistics.median(seconds):.1f}", file=sys.stderr)
