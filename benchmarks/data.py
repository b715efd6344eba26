"""The data file, docs/benchmarks.json: what sessions measured, and what they say together.

A session holds its machine and versions and, by contest and engine, seconds (or bytes) of each
round. Sessions of one machine and the same versions are taken together: a ratio is the median of
the rounds' ratios of them all, its spread reaches from the lowest to the highest.
"""

import json
from itertools import chain
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[1] / "docs" / "benchmarks.json"
KIND = "machine", "fastgrad", "versions", "blas", "compiler"


def load(path=DATA):
    """The sessions, the oldest first."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def save(sessions):
    DATA.write_text(json.dumps(sessions, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def differences(session, other):
    """In what two sessions are not of one kind, in words."""
    return [
        f"{name} of {session['date']}: {session[name]}; of {other['date']}: {other[name]}"
        for name in KIND
        if session[name] != other[name]
    ]


def together(sessions):
    """Several sessions as one: `dates`, and contests whose rows have a list for each session.

    Raises
    ------
    ValueError
        If their machines or versions differ; names how.
    """
    last = sessions[-1]
    for session in sessions:
        if found := differences(session, last):
            raise ValueError(
                "expected sessions of one machine and the same versions, got "
                f"{'; '.join(found)}: keep fewer sessions"
            )
    by_key = [{contest["key"]: contest for contest in session["contests"]} for session in sessions]
    keys = dict.fromkeys(key for contests in reversed(by_key) for key in contests)
    contests = [joined([contests[key] for contests in by_key if key in contests]) for key in keys]
    return last | {"dates": [session["date"] for session in sessions], "contests": contests}


def joined(contests):
    """One contest of several sessions: a row is a list of rounds for each, empty if left out."""
    labels = dict.fromkeys(label for contest in contests for label in contest["rows"])
    rows = {label: [contest["rows"].get(label, []) for contest in contests] for label in labels}
    left = {label: why for contest in contests for label, why in contest["left"].items()}
    return contests[-1] | {"rows": rows, "left": left}


def numbers(contest, label):
    """A row's rounds of all sessions."""
    return list(chain.from_iterable(contest["rows"][label]))


def ratios(contest, label, ours=None):
    """A row divided by fastgrad's, round by round."""
    theirs, ours = contest["rows"][label], contest["rows"][ours or contest["ours"]]
    return [a / b for held in zip(theirs, ours) for a, b in zip(*held)]


def rounded(number):
    """As it is shown."""
    return float(f"{number:.3g}")


def spread(found):
    """The lowest, the median and the highest."""
    return min(found), np.median(found), max(found)


def compared(contest):
    """The labels that have a ratio."""
    if contest["ours"] not in contest["rows"]:
        return []
    others = [label for label in contest["rows"] if label != contest["ours"]]
    return [label for label in others if ratios(contest, label)]


def held(session, others):
    """How a session's ratios lie to the spread that others state.

    Returns
    -------
    list
        Of each ratio that both have: title, label, whether it lies within, the session's median,
        the others' lowest and highest; all as they are shown.
    """
    stated = {contest["key"]: contest for contest in together(others)["contests"]}
    found = []
    for contest in together([session])["contests"]:
        other = stated.get(contest["key"], {"ours": "", "rows": {}})
        for label in compared(contest):
            if label in compared(other):
                low, _, high = map(rounded, spread(ratios(other, label)))
                median = rounded(np.median(ratios(contest, label)))
                found.append((contest["title"], label, low <= median <= high, median, low, high))
    return found
