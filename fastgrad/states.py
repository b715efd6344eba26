"""State dicts: what those of optimizers and of schedules have in common.

This module lets you make the content of a state plain, and say all that is wrong with a state at
once. A state is a flat dict of names to bools, ints, floats, strings and float64 arrays, so that
any format can hold it.

Invariant: nothing here changes a state or what it is for.
"""

from collections.abc import Collection, Mapping
from typing import Any


def stored(setting: Any) -> Any:
    """Make a setting, which has been checked, a content: a pair becomes an array.

    Examples
    --------
    >>> stored((0.9, 0.99))
    array([0.9 , 0.99])
    """
    import numpy as np

    if np.ndim(setting):
        return np.array(setting, dtype=np.float64)
    return setting if isinstance(setting, int) else float(setting)


def plain(content: Any) -> Any:
    """Make a setting of a content again, also of NumPy's numbers, as some formats give them back.

    Examples
    --------
    >>> import numpy as np
    >>> plain(np.array([0.9, 0.99])), plain(np.float64(0.5)), plain(True)
    ((0.9, 0.99), 0.5, True)
    """
    if hasattr(content, "tolist"):
        content = content.tolist()
    return tuple(content) if isinstance(content, list) else content


def mismatches(
    state: Mapping[str, Any],
    own: Mapping[str, Any],
    names: Collection[str],
    optional: Collection[str] = (),
) -> list[str]:
    """Say what tells that a state is something else's, a line each.

    Parameters
    ----------
    state : mapping
    own : mapping
        What the state must have with the same content.
    names, optional : collection of str
        What else it must have, and may have.

    Raises
    ------
    TypeError
        If it is no mapping.

    Examples
    --------
    >>> mismatches({"kind": "a", "c": 1}, {"kind": "b"}, ["d"])
    ["kind: got 'a', expected 'b'", 'missing: d', 'unexpected: c']
    """
    import numpy as np

    if not isinstance(state, Mapping):
        raise TypeError(
            f"a state must be a dict, as state_dict() returns it, got {type(state).__name__}"
        )
    lines = [
        f"{name}: got {state[name]!r}, expected {content!r}"
        for name, content in own.items()
        if name in state and not np.array_equal(state[name], content)
    ]
    expected = [*own, *names]
    missing = [name for name in expected if name not in state]
    unexpected = [str(name) for name in state if name not in (*expected, *optional)]
    if missing:
        lines.append(f"missing: {', '.join(missing)}")
    if unexpected:
        lines.append(f"unexpected: {', '.join(unexpected)}")
    return lines


def array_mismatches(state: Mapping[str, Any], names: Collection[str], count: int) -> list[str]:
    """Say which of the named are no float64 arrays of shape (count,), a line each.

    Examples
    --------
    >>> array_mismatches({"a": 1.0}, ["a", "b"], 3)
    ['a: got float, expected float64 of shape (3,)', 'missing: b']
    """
    lines = []
    for name in names:
        if name not in state:
            lines.append(f"missing: {name}")
            continue
        content = state[name]
        shape, dtype = getattr(content, "shape", None), getattr(content, "dtype", None)
        if shape != (count,) or dtype != "float64":
            got = type(content).__name__ if shape is None else f"{dtype} of shape {shape}"
            lines.append(f"{name}: got {got}, expected float64 of shape ({count},)")
    return lines


def refuse(what: str, lines: list[str]) -> None:
    """Raise if there is something to say.

    Raises
    ------
    ValueError
        If there is.

    Examples
    --------
    >>> refuse("schedule", [])
    """
    if lines:
        listed = "".join(f"\n  {line}" for line in lines)
        raise ValueError(f"the state does not fit this {what}, which is unchanged:{listed}")
