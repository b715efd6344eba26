"""What the FloatingPointError of `detect_anomaly` and ``check_finite=True`` says.

Got, where, what to look at: ``script.py:12: ** gave inf from (0.0, -1.0)``.
"""

import math
from collections.abc import Sequence

UNKNOWN = "(line unknown: recorded without detect_anomaly() or check_finite=True)"
SHOWN = 8  # operands at most, of which an operation of many shows the first


def value_text(label: str, operands: Sequence[float], result: float, origin: str = "") -> str:
    """Say which operation gave nan or inf; `origin` is what an operand is that was so before."""
    return f"{label} gave {result!r} from {_listed(operands)}{_origin(operands, origin)}"


def sum_text(terms: Sequence[float], result: float, origin: str = "") -> str:
    """The same for ``bias + w * x + ...``: which term did it; `terms` are bias, (w, x)..."""
    total, count = terms[0], len(terms) // 2
    if not math.isfinite(total):
        return f"dot gave {result!r}: its start is {total!r} already{_origin(terms, origin)}"
    number = 1
    while number < count and math.isfinite(total + terms[2 * number - 1] * terms[2 * number]):
        total += terms[2 * number - 1] * terms[2 * number]
        number += 1
    w, x = terms[2 * number - 1], terms[2 * number]
    return (
        f"dot gave {result!r} in term {number} of {count}: {total!r} + {w!r} * {x!r}"
        f"{_origin((w, x), origin)}"
    )


def adjoint_text(
    label: str,
    operands: Sequence[float],
    place: int,
    became: float,
    before: float,
    adjoint: float,
) -> str:
    """Say which operation gave an operand an adjoint of nan or inf in a backward pass."""
    whose = f"{label}'s operand {operands[place]!r}"
    if label == "dot" and place and len(operands) % 2:  # bias, (w, x)...
        number, count = (place + 1) // 2, len(operands) // 2
        w, x = operands[2 * number - 1], operands[2 * number]
        whose += f" in term {number} of {count}, {w!r} * {x!r},"
    elif len(operands) > 1:
        whose += f" in {_listed(operands)}"
    if not math.isfinite(before):
        return (
            f"the adjoint of {whose} was {before!r} before this backward pass came to it: "
            "set the grads to 0 first"
        )
    return f"the adjoint of {whose} became {became!r} (adjoint of the result {adjoint!r})"


def located(line: str | None, what: str) -> str:
    """Put the user's line in front."""
    return f"{line or UNKNOWN}: {what}"


def _listed(operands: Sequence[float]) -> str:
    if len(operands) == 1:
        return repr(operands[0])
    shown = ", ".join(map(repr, operands[:SHOWN]))
    return f"({shown}{', ...' if len(operands) > SHOWN else ''})"


def _origin(operands: Sequence[float], origin: str) -> str:
    if not origin:
        return ""
    strange = next(number for number in operands if not math.isfinite(number))
    return f"; the operand {strange!r} is {origin}: look at what set it"
