"""How a compiled function is called: which arguments are arrays, which are static.

Invariant: binding gives array arguments in the order of the function's parameters, and static ones
as hashable pairs of name and value.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple


class Arguments(NamedTuple):
    """How a function is called: its array arguments, and its static ones with their defaults."""

    names: list[str]
    static: dict[str, Any]
    required: set[str]
    more: bool  # *args

    @classmethod
    def of(cls, function: Callable[..., Any]) -> "Arguments":
        names, static, required, more = [], {}, set(), False
        for name, parameter in inspect.signature(function).parameters.items():
            match parameter.kind:
                case inspect.Parameter.VAR_POSITIONAL:
                    more = True
                case inspect.Parameter.KEYWORD_ONLY:
                    static[name] = parameter.default
                    if parameter.default is inspect.Parameter.empty:
                        static[name] = None
                        required.add(name)
                case inspect.Parameter.VAR_KEYWORD:
                    raise TypeError(
                        f"a compiled function cannot take **{name}: name the keyword arguments"
                    )
                case _:
                    names.append(name)
        return cls(names, static, required, more)

    def takes(self, count: int) -> bool:
        """Whether so many positional arguments are enough, and not too many."""
        return len(self.names) == count or (self.more and len(self.names) < count)

    def bind(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], tuple[tuple[str, Any], ...], list[str]]:
        """Sort arguments into arrays and static ones."""
        if not kwargs and not self.static and len(args) == len(self.names):
            return args, (), self.names
        names = [*self.names, *(f"argument {k}" for k in range(len(self.names), len(args)))]
        if len(args) > len(self.names) and not self.more:
            raise TypeError(f"expected {len(self.names)} arguments {self.names}, got {len(args)}")
        given = dict(zip(names, args))
        static = dict(self.static)
        for name, value in kwargs.items():
            if name in static:
                static[name] = value
            elif name in self.names and name not in given:
                given[name] = value
            elif name in given:
                raise TypeError(f"{name} was given twice")
            else:
                known = ", ".join([*self.names, *self.static]) or "none"
                raise TypeError(f"unknown keyword argument {name}: expected one of {known}")
        missing = [name for name in self.names if name not in given]
        missing += sorted(self.required - kwargs.keys())
        if missing:
            raise TypeError(f"missing argument {', '.join(missing)}")
        for name, value in static.items():
            try:
                hash(value)
            except TypeError:
                raise TypeError(
                    f"{name} is static, so it must be hashable, got {type(value).__name__} "
                    f"{value!r:.60}: pass a tuple, or make it a positional argument"
                ) from None
        return tuple(given[name] for name in names), tuple(static.items()), names


def exact(value: Any) -> Any:
    """What is equal only if type and sign are too: 1, 1.0 and True, 0.0 and -0.0 are not."""
    if isinstance(value, tuple):
        return (type(value), *map(exact, value))
    return (type(value), repr(value)) if isinstance(value, float) else (type(value), value)
