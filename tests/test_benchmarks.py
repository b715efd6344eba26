"""What README and docs/ say of speed is what the benchmarks' data file says."""

import copy

import pytest

from benchmarks import contests, engines, nets, parallel, report
from benchmarks.session import Session
from fastgrad import shards


@pytest.fixture(scope="module")
def data():
    return report.load()


def test_pages_are_those_of_the_data(data):
    for path, text in report.pages(data).items():
        assert path.read_text(encoding="utf-8") == text, (
            f"{path.name}: python -m benchmarks --redraw"
        )


def test_pages_follow_the_data(data):
    changed = copy.deepcopy(data)
    for contest in changed["contests"]:
        for label, numbers in contest["rows"].items():
            contest["rows"][label] = [7 * number for number in numbers]
    before, after = report.pages(data), report.pages(changed)
    assert all(before[path] != after[path] for path in before)


def test_data_holds_every_contest(data):
    assert [held["key"] for held in data["contests"]] == [c.key for c in contests.CONTESTS]
    for held, contest in zip(data["contests"], contests.CONTESTS):
        labels = {entry.label for entry in contest.entries} | set(contest.measures)
        assert labels == set(held["rows"]) | set(held["left"]), contest.key
        assert contest.ours in held["rows"]


def test_ratios_are_taken_within_a_round():
    contest = {"ours": "a", "rows": {"a": [1.0, 10.0, 100.0], "b": [2.0, 20.0]}}
    assert report.ratios(contest, "b") == [2.0, 2.0]


def test_a_peer_that_wins_is_listed_with_the_reason():
    contest = {
        "title": "A thing",
        "unit": "s",
        "ours": engines.COMPILED,
        "rows": {engines.COMPILED: [1.0, 1.1], engines.NUMPY: [0.5, 0.6], engines.JAX: [0.9, 1.2]},
    }
    listed = report.where_peers_win({"contests": [contest]})
    assert listed.startswith(f"- **{engines.NUMPY}** {engines.ENGINES[engines.NUMPY].wins}.")
    assert "A thing (0.52)" in listed
    assert engines.JAX not in listed  # not by more than the quartiles


def test_every_peer_that_wins_has_a_reason(data):
    assert [name for name, reason in report.losses(data) if not reason] == []


class Wrong:
    """A contestant whose gradient is off in one place."""

    def __init__(self, workload):
        self.right = engines.load(engines.NUMPY, workload)

    def gradient(self):
        value, gradient = self.right.gradient()
        gradient[3] += 1e-6
        return value, gradient

    def step(self):
        return self.right.step()


def test_a_wrong_gradient_is_refused(monkeypatch):
    net = nets.Net((2, 4, 1), 10, rate=0.1)
    expectation = engines.expected(net)
    engines.check(engines.NUMPY, net, expectation)
    load = engines.load
    monkeypatch.setattr(
        engines,
        "load",
        lambda name, workload: Wrong(workload) if name == "wrong" else load(name, workload),
    )
    with pytest.raises(AssertionError, match=r"wrong gradient: off by 1e-06"):
        engines.check("wrong", net, expectation)


def test_a_session_measures_and_leaves_out():
    """An engine has times or a reason; which of these are installed may differ."""
    names = engines.COMPILED, engines.NUMPY, engines.SLOTTED, engines.VM, engines.AUTOGRAD_NUMBERS
    entries = contests.entries(*names)
    with Session(rounds=3, at_least=0) as session:
        rows, left = session.hold(nets.Net((2, 4, 1), 10, rate=0.1), entries)
    assert {engines.COMPILED, engines.NUMPY} <= set(rows)
    assert all(len(numbers) == 3 and min(numbers) > 0 for numbers in rows.values())
    assert set(rows) | set(left) == {entry.label for entry in entries}
    assert all(left.values())
    assert not set(rows) & set(left)


# ---- the costs of a step on a cluster


@pytest.fixture(scope="module")
def steps():
    return parallel.load()


def test_the_page_on_clusters_is_that_of_its_data(steps):
    text = parallel.PAGE.read_text(encoding="utf-8")
    assert text == parallel.page(steps), "python -m benchmarks.parallel --redraw"
    changed = copy.deepcopy(steps)
    for net in changed["nets"]:
        for row in net["rows"]:
            row["cluster"] *= 7
    assert parallel.page(changed) != text


def test_tasks_are_those_of_the_tree():
    """Of a sum that counts its own additions."""
    additions = []

    def add(*four):
        additions.append(four)
        return sum(four)

    for shard_count in 1, 2, 4, 5, 16, 17, 21, 1000:
        additions.clear()
        assert shards.in_tree([1] * shard_count, add) == shard_count
        assert parallel.tasks(shard_count) == shard_count + len(additions)


def test_at_the_break_even_both_are_as_fast():
    costs = parallel.Costs(step=1e-2, task=1e-3, byte=1e-9)
    for workers in 2, 10, 100, 1000:
        work = parallel.break_even(costs, 10**5, workers)
        assert parallel.modelled(costs, 10**5, work, workers) == pytest.approx(work)


def test_costs_are_found_again(steps):
    """From times that are the model's own."""
    costs, made = parallel.Costs(step=1e-2, task=1e-3, byte=1e-9), copy.deepcopy(steps)
    for row in made["steps"]:
        row["seconds"] = costs.step + costs.task * parallel.tasks(row["shards"])
    for net in made["nets"]:
        for row in net["rows"]:
            seconds = parallel.modelled(costs, net["parameters"], row["core"], parallel.WORKERS)
            row["cluster"] = seconds
    assert parallel.costs_of(made) == pytest.approx(costs, rel=1e-6)
