"""What README and docs/ say of speed is what the benchmarks' data file says."""

import copy
import json
import sys

import pytest

from benchmarks import __main__ as command
from benchmarks import contests, engines, footprint, nets, parallel, report
from benchmarks.data import held, joined, load, numbers, ratios, spread, together
from benchmarks.session import Session
from fastgrad import shards


@pytest.fixture(scope="module")
def sessions():
    return load()


@pytest.fixture(scope="module")
def data(sessions):
    return together(sessions)


def test_pages_are_those_of_the_data(sessions):
    for path, text in report.pages(sessions).items():
        assert path.read_text(encoding="utf-8") == text, (
            f"{path.name}: python -m benchmarks --redraw"
        )


def test_pages_follow_the_data(sessions):
    changed = copy.deepcopy(sessions)
    for session in changed:
        for contest in session["contests"]:
            for label, rounds in contest["rows"].items():
                contest["rows"][label] = [7 * number for number in rounds]
    before, after = report.pages(sessions), report.pages(changed)
    assert all(before[path] != after[path] for path in before)


def test_data_holds_every_contest(data):
    assert [found["key"] for found in data["contests"]] == [c.key for c in contests.CONTESTS]
    for found, contest in zip(data["contests"], contests.CONTESTS):
        labels = {entry.label for entry in contest.entries} | set(contest.measures)
        assert labels == set(found["rows"]) | set(found["left"]), contest.key
        assert contest.ours in found["rows"]


def test_ratios_are_taken_within_a_round():
    contest = {"ours": "a", "rows": {"a": [[1.0, 10.0, 100.0], [1.0]], "b": [[2.0, 20.0], [3.0]]}}
    assert ratios(contest, "b") == [2.0, 2.0, 3.0]


def session_of(date, theirs, ours=(1.0, 1.0), **other):
    """Of one contest, or of none if nobody else took part."""
    kind = dict.fromkeys(("machine", "fastgrad", "versions", "blas", "compiler"), "")
    contest = {
        "key": "thing",
        "title": f"A thing {date}",
        "unit": "s",
        "ours": "a",
        "rows": {"a": list(ours), "b": list(theirs)},
        "left": {},
    }
    return {**kind, "date": date, "contests": [contest] if theirs else [], **other}


def test_the_spread_is_of_all_sessions():
    found = together([session_of("1", [2.0, 5.0]), session_of("2", []), session_of("3", [4.0])])
    (contest,) = found["contests"]
    assert found["dates"] == ["1", "2", "3"]
    assert contest["title"] == "A thing 3"
    assert numbers(contest, "b") == [2.0, 5.0, 4.0]
    assert spread(ratios(contest, "b")) == (2.0, 4.0, 5.0)


def test_a_row_that_one_session_left_out():
    first, second = (session_of(date, [2.0, 3.0])["contests"][0] for date in "12")
    del first["rows"]["b"]
    first["left"]["b"] = "too slow"
    contest = joined([first, second])
    assert ratios(contest, "b") == [2.0, 3.0]
    assert contest["left"] == {"b": "too slow"}


def test_sessions_of_other_versions_are_not_put_together():
    with pytest.raises(ValueError, match=r"got fastgrad of 1: 0\.1; of 2: 0\.2: keep fewer"):
        together([session_of("1", [], fastgrad="0.1"), session_of("2", [], fastgrad="0.2")])


def test_a_session_is_compared_with_the_stated_spread():
    stated = [session_of("1", [2.0, 3.0]), session_of("2", [2.5, 2.004])]
    (inside,) = held(session_of("3", [2.0, 2.0]), stated)
    (outside,) = held(session_of("3", [3.0, 3.1]), stated)
    assert inside == ("A thing 3", "b", True, 2.0, 2.0, 3.0)
    assert outside == ("A thing 3", "b", False, 3.05, 2.0, 3.0)
    told = report.comparison([inside, outside])
    assert told.startswith("1 of 2 ratios lie within")
    assert "| A thing 3 | b | 3.05 | 2 to 3 |" in told
    assert held(session_of("3", [2.0], ours=()), stated) == []  # fastgrad was left out


def test_the_page_says_how_sessions_hold_against_each_other():
    sessions = [session_of("1", [2.0, 3.0]), session_of("2", []), session_of("3", [2.5, 5.0])]
    assert report.cross_checked(sessions).endswith("alone: 1 of 1, 0 of 1.")
    assert report.cross_checked(sessions[:1]).startswith("There is one session")


def test_the_command_compares_files(sessions, monkeypatch, capsys, tmp_path):
    slower = copy.deepcopy(sessions[-1])
    for contest in slower["contests"]:
        contest["rows"][contest["ours"]] = [9 * n for n in contest["rows"][contest["ours"]]]
    path = tmp_path / "other.json"
    path.write_text(json.dumps([sessions[-1], slower]), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--compare", str(path)])
    command.main()
    same, other = [line for line in capsys.readouterr().out.splitlines() if "lie within" in line]
    count, _, of = same.split()[:3]
    assert count == of
    assert int(other.split()[0]) < int(of) / 10


def test_the_command_keeps_no_session_of_another_machine(sessions, monkeypatch, capsys):
    other = sessions[-1] | {"machine": "an abacus"}
    monkeypatch.setattr(command.data, "load", lambda: [other])
    monkeypatch.setattr(command, "measure", lambda *_: pytest.fail("measured all the same"))
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--keep", "1"])
    with pytest.raises(SystemExit):
        command.main()
    assert "an abacus" in capsys.readouterr().err


def test_an_import_is_timed_with_its_bytecode_there(monkeypatch, tmp_path):
    (tmp_path / "some_module.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert footprint.importing("some_module") > 0
    assert list(tmp_path.glob("__pycache__/some_module.*.pyc"))


def test_a_peer_that_wins_is_listed_with_the_reason():
    contest = {
        "title": "A thing",
        "unit": "s",
        "ours": engines.COMPILED,
        "rows": {
            engines.COMPILED: [[1.0], [1.1]],
            engines.NUMPY: [[0.5], [0.6]],
            engines.JAX: [[0.9], [1.2]],
            engines.TORCH: [[0.9], [1.5]],
        },
    }
    listed = report.where_peers_win({"contests": [contest]})
    assert listed.startswith(f"- **{engines.NUMPY}** {engines.ENGINES[engines.NUMPY].wins}.")
    assert "A thing: 0.523 (0.5 to 0.545)" in listed
    assert engines.JAX in listed
    assert engines.TORCH not in listed  # not in most rounds


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
