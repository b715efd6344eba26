"""`fastgrad.fit` does what the loop by hand does, stops and goes on exactly, and refuses bad input.

Runs that are killed are in test_fit_kills.py.
"""

import random

import numpy as np
import pytest

import fastgrad
from fastgrad import Value, functional, nn, optim

RNG = np.random.default_rng(3)
X = RNG.normal(size=(45, 3))
LABELS = (X[:, 0] * X[:, 1] > 0).astype(int) + (X[:, 2] > 1)


def new_model(*, dropout=False):
    random.seed(7)
    if dropout:
        layers = nn.Layer(3, 16), nn.Dropout(0.3), nn.Layer(16, 3, nonlin=False)
        return nn.Sequential(*layers)
    return nn.MLP(3, [16, 3])


def numbers(model):
    return [p.data for p in model.parameters()]


def fit(model, X=X, Y=LABELS, **options):
    return fastgrad.fit(model, X, Y, progress=False, **options)


def adam(model):
    return optim.Adam(model.parameters(), lr=0.02)


# ---- what it does


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_the_same_bits_as_by_hand(clip_norm):
    model, twin = new_model(), new_model()
    optimizer, other = adam(model), adam(twin)
    schedule, other_schedule = (optim.StepLR(one, 2, 0.5) for one in (optimizer, other))
    history = fit(
        model, optimizer=optimizer, schedule=schedule, epochs=5, batch_size=8, clip_norm=clip_norm
    )

    loss_of = fastgrad.compile(lambda x, y: functional.cross_entropy(twin(x), y))
    losses, rates, accuracies = [], [], []
    for epoch in range(5):
        order, total = np.random.default_rng((0, epoch + 1)).permutation(45), 0.0
        for start in range(0, 45, 8):
            rows = order[start : start + 8]
            other.zero_grad()
            total += len(rows) * loss_of.backward(X[rows], LABELS[rows])
            if clip_norm is not None:
                optim.clip_grad_norm_(twin.parameters(), clip_norm)
            other.step()
        losses.append(total / 45)
        rates.append(other.lr)
        other_schedule.step()
        outputs = fastgrad.compile(twin)(X)
        accuracies.append(float((outputs.argmax(axis=1) == LABELS).mean()))
    assert history == {"loss": losses, "lr": rates, "accuracy": accuracies}
    assert numbers(model) == numbers(twin)
    assert losses[-1] < losses[0]
    assert rates == [0.02, 0.02, 0.01, 0.01, 0.005]


def test_clipping_changes_what_is_learnt():
    ends = []
    for clip_norm in None, 0.01, 1e9:
        model = new_model()
        fit(model, optimizer=optim.SGD(model.parameters(), lr=0.1), epochs=1, clip_norm=clip_norm)
        ends.append(numbers(model))
    assert ends[0] == ends[2] != ends[1]


def test_every_sample_is_seen_once_an_epoch_in_another_order():
    w, seen = Value(1.0), []

    class Watch(optim.SGD):
        def minimize(self, program, x, y):
            seen.append(x.tolist())
            return super().minimize(program, x, y)

    program = fastgrad.compile(lambda x, y: (w * x - y) ** 2)
    samples = np.arange(10.0)
    fit(program, samples, samples, optimizer=Watch([w], lr=0.0), epochs=2, batch_size=4)
    assert [len(batch) for batch in seen] == [4, 4, 2] * 2
    first, second = ([x for batch in epoch for x in batch] for epoch in (seen[:3], seen[3:]))
    assert sorted(first) == sorted(second) == samples.tolist()
    assert first != second and first != sorted(first)


def test_seeds():
    def end(**options):
        model = new_model()
        return fit(model, epochs=2, **options), numbers(model)

    assert end(seed=1) == end(seed=1) != end(seed=2)
    assert end(seed=1, validation=0.2) == end(seed=1, validation=0.2) != end(validation=0.2)


def test_losses_by_name_and_by_function():
    random.seed(1)
    targets = X @ [1.0, -2.0, 0.5]
    model = nn.MLP(3, [1])
    history = fit(model, Y=targets, optimizer=optim.SGD(model.parameters(), lr=0.1), epochs=60)
    assert list(history) == ["loss", "lr"]  # mse, as targets are floats
    assert history["loss"][-1] < 1e-6
    assert [w.data for w in model.layers[0].neurons[0].w] == pytest.approx([1, -2, 0.5], abs=1e-3)

    signs = np.where(X[:, 0] > 0, 1, -1)
    model = nn.MLP(3, [1])
    history = fit(model, Y=signs, loss="hinge", optimizer=adam(model), epochs=200)
    assert history["accuracy"][-1] > 0.95

    model = nn.MLP(3, [1])
    history = fit(model, Y=signs, loss=lambda out, y: abs(out - y), optimizer=adam(model))
    assert list(history) == ["loss", "lr"]
    assert history["loss"][-1] < history["loss"][0]


def test_a_program_with_the_default_optimizer():
    w, b = Value(0), Value(0)
    program = fastgrad.compile(lambda x, y: (w * x + b - y) ** 2)
    samples = np.linspace(-1, 1, 64)
    history = fit(program, samples, 2 * samples, epochs=3, validation=(samples, 2 * samples))
    assert 0 < w.data < 0.1
    assert list(history) == ["loss", "lr", "validation_loss"]
    assert history["validation_loss"][-1] == program(samples, 2 * samples).mean()


def test_dropout_trains_and_rests():
    model = new_model(dropout=True)
    seen = []

    class Watch(nn.Dropout):
        def _factors(self, samples, count):
            seen.append((samples, self.training))
            return super()._factors(samples, count)

    model.layers[1] = Watch(0.3)
    history = fit(model, epochs=1, validation=0.2)
    assert seen[-4:] == [(32, True), (4, True), (9, False), (9, False)]
    assert not any(part.training for part in (model, *model.layers))
    held_out = np.random.default_rng(0).permutation(45)[:9]
    outputs = fastgrad.compile(model)(X[held_out])
    assert history["validation_accuracy"] == [(outputs.argmax(1) == LABELS[held_out]).mean()]


def test_early_stopping_restores_the_best():
    noise = np.random.default_rng(1).integers(0, 3, 45)  # nothing to learn from

    def run(**options):
        model = new_model()
        history = fit(model, Y=noise, optimizer=adam(model), validation=0.4, **options)
        return history["validation_loss"], numbers(model)

    losses, end = run(epochs=100, patience=3)
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 3 < 100
    assert run(epochs=best + 1) == (losses[: best + 1], end)


def test_progress(capsys):
    model = new_model()
    fastgrad.fit(model, X, LABELS, epochs=2)
    out, err = capsys.readouterr()
    assert out == ""
    assert "4/4" in err and "loss" in err and "accuracy" in err
    fit(model)
    assert capsys.readouterr() == ("", "")


def test_without_tqdm(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    fastgrad.fit(new_model(), X, LABELS, epochs=1)
    assert capsys.readouterr() == ("", "")


# ---- checkpoints


def options_for(model, **more):
    optimizer = adam(model)
    schedule = optim.CosineAnnealingLR(optimizer, T_max=6)
    return {"optimizer": optimizer, "schedule": schedule, "validation": 0.2, **more}


def test_going_on_gives_the_same_bits(tmp_path):
    whole = new_model(dropout=True)
    expected = fit(whole, epochs=6, **options_for(whole))
    path = tmp_path / "run.npz"
    for epochs in 2, 3, 6, 6:
        model = new_model(dropout=True)
        if epochs > 2:
            random.seed()  # what Dropout draws goes on as the checkpoint says
        history = fit(model, epochs=epochs, checkpoint=path, **options_for(model))
        assert len(history["loss"]) == epochs
    assert history == expected
    assert numbers(model) == numbers(whole)

    best = new_model(dropout=True)
    best.load_state_dict(fastgrad.load(path)["best"])
    stopped = new_model(dropout=True)
    last = int(np.argmin(history["validation_loss"])) + 1
    fit(stopped, epochs=last, **options_for(stopped))
    assert numbers(best) == numbers(stopped)


def test_a_cell_that_is_run_again_with_more_epochs(tmp_path):
    model, twin = new_model(), new_model()
    options = options_for(model, checkpoint=tmp_path / "run.npz")
    fit(model, epochs=2, **options)
    history = fit(model, epochs=4, **options)
    assert history == fit(twin, epochs=4, **options_for(twin))
    assert numbers(model) == numbers(twin)


def squares_of(w):
    return lambda x, y: (w * x - y) ** 2


def test_a_program_goes_on(tmp_path):
    ends = []
    for stops in (4,), (1, 4):
        path = tmp_path / f"{stops}.npz"
        for epochs in stops:
            w = Value(0.5)
            program = fastgrad.compile(squares_of(w))
            history = fit(program, X[:, 0], X[:, 1], epochs=epochs, checkpoint=path)
        ends.append((history, w.data))
    assert ends[0] == ends[1]


def test_a_checkpoint_of_another_run_changes_nothing(tmp_path):
    path = tmp_path / "run.npz"
    model = new_model()
    fit(model, epochs=2, checkpoint=path, **options_for(model))

    def message(model=None, X=X, **more):
        model = model or new_model()
        before, file = numbers(model), path.read_bytes()
        with pytest.raises(ValueError) as info:
            fit(model, X, epochs=4, checkpoint=path, **options_for(model, **more))
        assert numbers(model) == before
        assert path.read_bytes() == file
        return str(info.value)

    assert message(clip_norm=1.0, batch_size=9) == (
        f"{path} is the checkpoint of another run, and nothing was changed; go on with that one, "
        "or give another path:\n  batch_size: got 32, expected 9"
        "\n  clip_norm: got None, expected 1.0"
    )
    assert "\n  data: got" in message(X=X + 1)
    assert "\n  data: got" in message(seed=1)
    assert "\n  schedule settings: got" in message(schedule=None)
    model = new_model()
    sgd = optim.SGD(model.parameters())
    assert "\n  optimizer settings: got" in message(model, optimizer=sgd, schedule=None)
    assert "\n  computation: got" in message(nn.MLP(3, [16, 3], activation="tanh"))
    cross_entropy = functional.cross_entropy
    assert "\n  computation: got" in message(loss=lambda o, y: 2.0 * cross_entropy(o, y))
    assert "\n  accuracy: got True, expected False" in message(loss=cross_entropy)
    wide = nn.MLP(3, [16, 3])
    wide.more = [Value(1.0)]
    wide.parameters = lambda: [*nn.MLP.parameters(wide), *wide.more]
    assert "trained parameters: got 115, expected 116" in message(wide)
    fastgrad.save(new_model(), path)
    assert "missing: checkpoint, data, loss, " in message()
    path.write_bytes(path.read_bytes()[:-5])
    assert "bytes that end too early" in message()


def test_a_folder_that_is_not_there(tmp_path):
    model = new_model()
    before = numbers(model)
    with pytest.raises(FileNotFoundError):
        fit(model, checkpoint=tmp_path / "none" / "run.npz")
    assert numbers(model) == before


# ---- bad input


def raised(error, *args, **options):
    model = options.pop("model", None) or new_model()
    before = numbers(model)
    with pytest.raises(error) as info:
        fit(model, *args, **options)
    assert numbers(model) == before
    assert all(p.grad == 0 for p in model.parameters())
    return str(info.value)


def test_bad_samples():
    assert raised(ValueError, X[:7], LABELS[:6]) == (
        "X has 7 samples, Y has 6: expected a target for each sample"
    )
    assert raised(ValueError, X[:0], LABELS[:0]) == "X and Y have no samples"
    assert raised(ValueError, 1.0, LABELS) == "X must be an array of samples, got the number 1.0"
    assert raised(TypeError, X, ["a"] * 45).startswith("Y must be an array of numbers, got <U1")
    assert "rows of different lengths" in raised(ValueError, [[1], [1, 2]], [0, 1])
    broken = X.copy()
    broken[4, 1] = np.nan
    assert raised(ValueError, broken, LABELS) == "X is not finite in sample 4"
    assert raised(ValueError, X, LABELS, validation=(broken, LABELS)) == (
        "validation X is not finite in sample 4"
    )
    assert "got 2" in raised(ValueError, X[:, :2], LABELS)


@pytest.mark.parametrize("label", [-1, 3, 1000])
def test_labels_out_of_range(label):
    labels = LABELS.copy()
    labels[40] = label
    expected = (
        f"the label of sample 40 is out of range: got {label}.0, expected whole numbers from 0 "
        "to 2, as the model has 3 outputs"
    )
    assert raised(ValueError, X, labels) == expected
    assert raised(ValueError, X, LABELS, validation=(X, labels)) == expected
    model = new_model()
    program = fastgrad.compile(lambda x, y: functional.cross_entropy(model(x), y))
    before = numbers(model)
    with pytest.raises(IndexError, match="sample 40: y"):
        fit(program, Y=labels)
    assert numbers(model) == before


def test_a_loss_of_nothing_changes_nothing():
    model = nn.MLP(3, [3]).train()
    with pytest.raises(ValueError) as caught:
        fastgrad.fit(model, X, LABELS, loss=lambda output, target: 3.0, progress=False)
    assert str(caught.value).startswith("the loss depends on no parameter: <lambda> must compute")
    assert model.training


def test_a_program_without_a_target():
    program = fastgrad.compile(nn.MLP(3, [1]))
    with pytest.raises(TypeError, match="to train a module, pass it uncompiled"):
        fastgrad.fit(program, X, LABELS, progress=False)


def test_tied_layers_are_trained_once():
    layer = nn.Layer(3, 3)
    model = nn.Sequential(layer, layer)
    assert len(model.parameters()) == 12
    fastgrad.fit(model, X, LABELS, epochs=1, progress=False)


def test_a_module_that_lists_no_parameters():
    class Residual(nn.Module):
        def __init__(self):
            self.inner, self.gain = nn.Layer(3, 3), Value(0.5)

        def __call__(self, x):
            return [number + self.gain * more for number, more in zip(x, self.inner(x))]

    model = nn.Sequential(Residual(), nn.Layer(3, 3, nonlin=False))
    assert raised(ValueError, X, LABELS, model=model) == (
        "Residual has Values that the loss depends on, but no parameters(): define it, to list "
        "those that are trained, [] if none is"
    )

    class Frozen(Residual):
        def parameters(self):
            return []

    model = nn.Sequential(Frozen(), nn.Layer(3, 3, nonlin=False))
    before = model.layers[0].gain.data
    fit(model)
    assert model.layers[0].gain.data == before


def test_targets_that_do_not_suit_the_loss():
    assert raised(ValueError, X, LABELS + 0.5, loss="cross_entropy").startswith(
        "the label of sample 0 is out of range: got"
    )
    assert raised(ValueError, X, LABELS, model=nn.MLP(3, [1])) == (
        "cross_entropy needs a row of outputs, one for each class, and a label a sample, got "
        "outputs of shape () and targets of shape (): choose loss='mse', or 'hinge' for labels -1 "
        "and 1, or widen the last layer"
    )
    assert raised(ValueError, X, LABELS[:, None]).endswith("targets of shape (1,): pass Y.ravel()")
    assert raised(ValueError, X, LABELS.astype(float)) == (
        "mse needs targets of the shape of an output, (3,), got (): labels of classes must be "
        "ints, as Y.astype(int) makes them"
    )
    assert raised(ValueError, X, X[:, :1], model=nn.MLP(3, [1])) == (
        "mse needs targets of the shape of an output, (), got (1,)"
    )
    assert raised(ValueError, X, LABELS, model=nn.MLP(3, [1]), loss="hinge").endswith(
        "expected -1 or 1"
    )
    model = nn.MLP(3, [2])
    assert raised(ValueError, X, [[1, -1], [1, 0]] * 22 + [[1, 1]], model=model, loss="hinge") == (
        "the label of sample 1 is out of range: got [1.0, 0.0], expected -1 or 1"
    )


def test_bad_settings():
    assert raised(ValueError, batch_size=0) == "batch_size must be at least 1, got 0"
    assert raised(TypeError, epochs=2.0) == "epochs must be an int, got float 2.0"
    assert raised(ValueError, patience=0) == "patience must be at least 1, got 0"
    assert raised(ValueError, seed=-1) == "seed must be at least 0, got -1"
    assert raised(ValueError, clip_norm=float("nan")).startswith("Invalid clip_norm: nan")
    for share in 0, 1, 1.5, -0.1, 0.001, 0.999, float("nan"):
        assert raised(ValueError, validation=share) == (
            f"validation={share} holds none of 45 samples out, or all: expected a share between 0 "
            "and 1"
        )
    assert raised(TypeError, validation="0.2").endswith("a pair (X, Y), got str '0.2'")
    assert raised(ValueError, validation=(X[:, :2], LABELS)) == (
        "samples of validation X have the shape (2,), expected (3,), that of X"
    )
    assert raised(ValueError, loss="l1") == (
        "loss must be one of cross_entropy, hinge, mse or a function of output and target, got 'l1'"
    )


def test_bad_optimizers():
    model = new_model()
    optimizer = adam(model)
    optimizer.param_groups[0]["lr"] = float("nan")
    assert raised(ValueError, model=model, optimizer=optimizer) == (
        "Invalid learning rate: nan, expected 0 <= lr < inf"
    )
    for clip_norm in None, 1.0:
        assert raised(ValueError, optimizer=adam(new_model()), clip_norm=clip_norm) == (
            "the loss depends on none of the optimizer's parameters, but on 115 others: "
            "make the optimizer of the model's parameters"
        )
    assert raised(TypeError, optimizer="adam").startswith("optimizer must be an Optimizer, say")
    assert raised(TypeError, schedule="step") == "schedule must be one of fastgrad.optim's, got str"
    schedule = optim.StepLR(adam(model), 1)
    assert raised(ValueError, model=model, optimizer=adam(model), schedule=schedule) == (
        "schedule is another optimizer's: make it of the one that is given"
    )


def test_bad_models():
    def message(error, model, **options):
        with pytest.raises(error) as info:
            fit(model, **options)
        return str(info.value)

    empty = "optimizer got an empty parameter list: expected at least one Value"
    assert message(ValueError, nn.Sequential(lambda x: [x[0], x[1], x[2]])) == empty
    assert message(ValueError, fastgrad.compile(lambda x, y: x[0] * y)) == empty
    assert message(TypeError, lambda x: x).startswith(
        "fit needs an nn.Module or a compiled program, got function <function"
    )
    program = fastgrad.compile(lambda x, y: x[0] * y)
    assert message(TypeError, program, loss="mse") == (
        "a program gives the loss itself, got loss='mse' beside it"
    )
    w = Value(1.0)
    with pytest.raises(ValueError, match=r"fit needs one number a sample, <lambda> gives \(2,\)"):
        fit(fastgrad.compile(lambda x, y: [w * y, w]))
    assert w.data == 1.0


def test_a_loss_that_is_finite_no_more(tmp_path):
    w, path = Value(1.0), tmp_path / "run.npz"
    program = fastgrad.compile(lambda x, y: (w * x - y) ** 2)
    with pytest.raises(FloatingPointError, match=r"loss is (inf|nan) in epoch \d+: try a lower"):
        fit(program, X[:, 0], X[:, 1], optimizer=optim.SGD([w], lr=1e60), checkpoint=path)
    kept = fastgrad.load(path)
    assert np.isfinite(kept["model"]["values"]).all()
