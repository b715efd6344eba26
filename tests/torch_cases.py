"""What fastgrad.optim and torch.optim are both given to do; torch_cases.json has torch's results.

`python tests/torch_cases.py`, where torch is installed, writes that file. It was written by torch
2.13.0 on a CPU. Nothing here needs fastgrad.
"""

import importlib.util
import json
from pathlib import Path

STORED = Path(__file__).with_suffix(".json")
HAS_TORCH = importlib.util.find_spec("torch") is not None

STEPS = 100
START = [0.75, -1.25, 3.0]
CURVES = [0.5, 2.0, 0.125]
TARGETS = [1.0, 0.0, -2.0]
EPOCHS = 60

# An optimizer, its settings, and those that are changed after some of the steps.
HALVED = {50: {"lr": 0.02}}
OPTIMIZERS = [
    ("SGD", {}, {}),
    ("SGD", {"lr": 0.1}, HALVED),
    ("SGD", {"lr": 0.1, "weight_decay": 0.01}, HALVED),
    ("SGD", {"lr": 0.05, "momentum": 0.9}, HALVED),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}, HALVED),
    ("SGD", {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}, HALVED),
    ("SGD", {"lr": 0.05, "dampening": 0.5}, {30: {"momentum": 0.9}}),
    ("SGD", {"lr": 0.05, "momentum": 0.9}, {30: {"momentum": 0}, 45: {"momentum": 0.9}}),
    ("Adam", {}, HALVED),
    ("Adam", {"lr": 0.1, "betas": (0.85, 0.99)}, HALVED),
    ("Adam", {"lr": 0.05, "betas": (0.0, 0.5), "eps": 0.1, "weight_decay": 0.1}, HALVED),
    ("AdamW", {}, HALVED),
    ("AdamW", {"lr": 0.1, "betas": (0.85, 0.99), "weight_decay": 0}, HALVED),
    ("AdamW", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 0.1, "weight_decay": 0.5}, HALVED),
    ("RMSprop", {}, HALVED),
    ("RMSprop", {"lr": 0.05, "alpha": 0.9}, HALVED),
    ("RMSprop", {"lr": 0.05, "eps": 0.1, "weight_decay": 0.1}, HALVED),
    ("RMSprop", {"lr": 0.01, "momentum": 0.9}, HALVED),
    ("RMSprop", {"lr": 0.01, "centered": True}, HALVED),
    ("RMSprop", {"lr": 0.01, "alpha": 0.25, "centered": True, "eps": 0.5}, HALVED),
    (
        "RMSprop",
        {"lr": 0.01, "alpha": 0.9, "weight_decay": 0.1, "momentum": 0.5, "centered": True},
        HALVED,
    ),
]
SCHEDULES = [
    [("StepLR", {"step_size": 7})],
    [("StepLR", {"step_size": 1, "gamma": 0.97})],
    [("CosineAnnealingLR", {"T_max": 60})],
    [("CosineAnnealingLR", {"T_max": 12, "eta_min": 0.05})],
    [("CosineAnnealingLR", {"T_max": 1})],
    [("LinearLR", {})],
    [("LinearLR", {"start_factor": 0.05, "total_iters": 40})],
    [("LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 60})],
    [("LinearLR", {"start_factor": 0.1, "total_iters": 10}), ("StepLR", {"step_size": 20})],
]
GRADS = [3.0, -4.0, 0.5, 0.0]
CLIPS = [
    ("clip_grad_norm_", {"max_norm": 1.0}, GRADS),
    ("clip_grad_norm_", {"max_norm": 100}, GRADS),
    ("clip_grad_norm_", {"max_norm": 0.0}, GRADS),
    ("clip_grad_norm_", {"max_norm": float("inf")}, GRADS),
    ("clip_grad_norm_", {"max_norm": 1.0, "norm_type": float("inf")}, GRADS),
    ("clip_grad_norm_", {"max_norm": 1.0, "norm_type": "inf"}, [1.0, float("nan"), 2.0]),
    ("clip_grad_norm_", {"max_norm": 1.0}, [1.0, float("inf")]),
    ("clip_grad_norm_", {"max_norm": 1.0}, [1.0, float("nan")]),
    ("clip_grad_norm_", {"max_norm": 1.0}, [1e200, 1.0]),
    ("clip_grad_value_", {"clip_value": 1}, [0.5, -0.5, 1.0, 2.0, -3.0, 0.0]),
    ("clip_grad_value_", {"clip_value": 0.25}, [float("inf"), -float("inf"), float("nan")]),
]


def name_of(case):
    return repr(case)


def gradient(numbers, step):
    """Of a parabola for each number, and a disturbance that has a period of 11 steps."""
    return [
        curve * (number - target) + 0.1 * ((7 * step + 3 * k) % 11 - 5)
        for k, (number, curve, target) in enumerate(zip(numbers, CURVES, TARGETS))
    ]


def descend(optimizer, read, write, changes, first=0, last=STEPS):
    """Take steps; `write` adds to the grads, `read` gives the parameters' numbers.

    Returns those after every 20th step.
    """
    rows = []
    for step in range(first, last):
        optimizer.param_groups[0].update(changes.get(step, {}))
        optimizer.zero_grad()
        write(gradient(read(), step))
        optimizer.step()
        if step % 20 == 19:
            rows.append(read())
    return rows


def rates(optimizer, schedules, epochs=EPOCHS):
    """The learning rates of this epoch and of those that follow."""
    found = [optimizer.param_groups[0]["lr"]]
    for _ in range(epochs):
        optimizer.step()
        for schedule in schedules:
            schedule.step()
        found.append(optimizer.param_groups[0]["lr"])
    return found


def scheduled(optim, lr_scheduler, parameters, case):
    """The learning rates of a fresh run, and of one that goes on after epoch 20 by `last_epoch`."""
    whole = optim.SGD(parameters, lr=0.5)
    fresh = rates(
        whole, [getattr(lr_scheduler, name)(whole, **settings) for name, settings in case]
    )
    part = optim.SGD(parameters, lr=fresh[20])
    part.param_groups[0]["initial_lr"] = 0.5
    resumed = [
        getattr(lr_scheduler, name)(part, **settings, last_epoch=20) for name, settings in case
    ]
    return [fresh, rates(part, resumed, EPOCHS - 21)]


# ---- by torch


def descend_by_torch(case):
    import torch

    name, settings, changes = case
    p = torch.tensor(START, dtype=torch.float64, requires_grad=True)

    def write(grads):
        p.grad = torch.tensor(grads, dtype=torch.float64)

    optimizer = getattr(torch.optim, name)([p], **settings)
    return descend(optimizer, p.tolist, write, changes)


def schedule_by_torch(case):
    import torch

    p = torch.zeros(1, requires_grad=True)
    return scheduled(torch.optim, torch.optim.lr_scheduler, [p], case)


def clip_by_torch(case):
    import torch

    name, settings, grads = case
    parameters = [torch.tensor(0.0, dtype=torch.float64, requires_grad=True) for _ in grads]
    for p, grad in zip(parameters, grads):
        p.grad = torch.tensor(grad, dtype=torch.float64)
    norm = getattr(torch.nn.utils, name)(parameters, **settings)
    return [None if norm is None else norm.item(), [p.grad.item() for p in parameters]]


def by_torch():
    return (
        {name_of(case): descend_by_torch(case) for case in OPTIMIZERS}
        | {name_of(case): schedule_by_torch(case) for case in SCHEDULES}
        | {name_of(case): clip_by_torch(case) for case in CLIPS}
    )


if __name__ == "__main__":
    lines = (f"{json.dumps(name)}: {json.dumps(numbers)}" for name, numbers in by_torch().items())
    STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
