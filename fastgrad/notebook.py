"""Run the code cells of a Jupyter notebook in order, as one program.

This module lets you:

- `run_notebook`: read a notebook, turn its cells into Python, show their trees to whoever wants
  to change them, and run them one after the other.

Invariant: a line keeps its number within its cell, whatever magics stand above it, so tracebacks
and syntax errors name the cell and the line that the reader sees in Jupyter.

Limitations: only what the cells print is shown, not the value of a cell's last expression. There
is no ``get_ipython`` and no ``await`` outside functions. Magics that change nothing are skipped,
and so is what ``%timeit`` would run, as nobody knows how many times; any other magic or shell
line is refused before the first cell runs.
"""

import __future__

import ast
import contextlib
import io
import json
import linecache
import re
import sys
import tokenize
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

# Matched against lines that begin a statement, where nothing that they match is valid Python.
_TARGET = r"^\s*(?:[\w.,*\[\] ]+=\s*)?"
_TIME = re.compile(rf"({_TARGET})%\s*time[ \t]+(?=\S)")
_HARMLESS = re.compile(
    r"""
    %\s*(?:autoreload|colors|conda|config|load_ext|lsmagic|mamba|matplotlib|pip|precision
        |reload_ext|time$|timeit|uv\s+pip|whos?|xmode)\b
    | !\s*(?:(?:sudo\s+)?(?:apt|apt-get|conda|mamba|pip3?|uv\s+pip)|\S+\s+-m\s+pip)\s
    | (?:conda|pip3?)\s+install\s  # Jupyter takes these without the %
    | \?  # help: ?name
    | %{0,2}[\w.*]+\?\??$  # help: name?
    """,
    re.VERBOSE,
)
_MAGIC = re.compile(_TARGET + "[%!]")
_NOT_RUN = {
    f"%%{name}" for name in ["html", "javascript", "js", "latex", "markdown", "svg", "timeit"]
}


class _Cell(NamedTuple):
    name: str
    source: str
    silent: bool
    tree: ast.Module | None  # None if it does not parse


def run_notebook(
    path: str,
    data: bytes,
    namespace: dict[str, Any],
    prepare: Callable[[list[ast.Module], list[str]], None],
    call: Callable[..., Any],
) -> None:
    """Run the code cells of a notebook in `namespace`.

    A cell that does not parse raises its SyntaxError when its turn comes. Tracebacks call the
    third code cell ``PATH, cell 3``. Their text comes from `linecache`, which python's own
    ``sys.excepthook`` ignores before 3.13, so that hook is replaced for good.

    Parameters
    ----------
    path : str
        What messages call the notebook.
    data : bytes
        The content of the ``.ipynb`` file: nbformat 4, or 3 with one worksheet.
    namespace : dict
        The globals of all cells. ``display`` is added if a cell uses that name.
    prepare : callable
        Called once before anything runs, with the trees of all cells that parse and their file
        names. It may change the trees in place.
    call : callable
        ``call(f, *args)`` calls ``f(*args)`` for each step that can raise what the notebook is
        to blame for.

    Raises
    ------
    SystemExit
        With status 2 if `data` is no Python notebook or has a magic that cannot be run; or if
        a cell exits.
    BaseException
        Whatever a cell lets out.

    Examples
    --------
    >>> cells = '{"cell_type": "code", "source": "x = 2"}, {"cell_type": "code", "source": "x + y"}'
    >>> def prepare(trees, names):
    ...     print(names, ast.unparse(trees[1]))
    >>> def call(f, *args):
    ...     return f(*args)
    >>> run_notebook("a.ipynb", f'{{"cells": [{cells}]}}'.encode(), {"y": 3}, prepare, call)
    ['a.ipynb, cell 1', 'a.ipynb, cell 2'] x + y
    """
    sources = enumerate(_code_cells(path, data), start=1)
    cells = [_read(f"{path}, cell {number}", source) for number, source in sources]
    trees = {cell.name: cell.tree for cell in cells if cell.tree}
    prepare(list(trees.values()), list(trees))
    nodes = (node for tree in trees.values() for node in ast.walk(tree))
    if any(isinstance(node, ast.Name) and node.id == "display" for node in nodes):
        namespace["display"] = _display
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = traceback.print_exception
    flags = 0
    for cell in cells:
        try:
            code = call(compile, cell.tree or cell.source, cell.name, "exec", flags, True)
        except SyntaxError as error:
            # Of errors found after parsing, compile looks for the text in a file of that name.
            error.text = error.text or linecache.getline(cell.name, error.lineno or 0)
            raise
        # In Jupyter a cell's `from __future__ import annotations` holds for those below it.
        flags |= code.co_flags & __future__.annotations.compiler_flag
        with contextlib.ExitStack() as stack:
            if cell.silent:
                stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
                stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
            call(exec, code, namespace)


def _display(*objects: object, **_options: object) -> None:
    """Stand in for Jupyter's ``display``: show each object as text."""
    for shown in objects:
        print(repr(shown))


def _refuse(message: str) -> NoReturn:
    print(f"fastgrad: {message}", file=sys.stderr)
    sys.exit(2)


def _code_cells(path: str, data: bytes) -> list[str]:
    """Return the text of each code cell, as it stands in the notebook."""
    save = "save it from Jupyter as .ipynb (nbformat 4)"
    try:
        notebook = json.loads(data)
    except ValueError as error:
        _refuse(f"{path} is no notebook: not JSON ({error}); {save}")
    match notebook:
        case {"cells": list(cells)} | {"worksheets": [{"cells": list(cells)}]}:
            pass
        case _:
            _refuse(f"{path} is no notebook: its JSON has no list of cells; {save}")
    match notebook:
        case {"metadata": {"language_info": {"name": str(language)}}}:
            pass
        case {"metadata": {"kernelspec": {"language": str(language)}}}:
            pass
        case _:
            language = "python"
    if "python" not in language.lower():
        _refuse(f"{path} is written in {language}: expected Python; run it in Jupyter")
    sources = []
    for cell in cells:
        match cell:
            # nbformat 3 calls it input. Its text is a string or a list of lines.
            case {"cell_type": "code", "source": text} | {"cell_type": "code", "input": text}:
                sources.append("".join(text))
    return sources


def _read(name: str, text: str) -> _Cell:
    """Turn the text of a cell into Python, and parse it."""
    lines = io.StringIO(text, newline=None).readlines()
    silent = _skip_magics(name, lines)
    source = "".join(lines)
    linecache.cache[name] = (len(source), None, lines, name)
    try:
        tree = ast.parse(source, name)
    except (SyntaxError, ValueError):  # ValueError: a null byte
        tree = None
    return _Cell(name, source, silent, tree)


def _skip_magics(name: str, lines: list[str]) -> bool:
    """Make comments of the magics in `lines`; return whether the cell's output is not shown."""
    silent = False
    row = 0
    while row < len(lines):
        match lines[row].split():
            case []:
                pass
            case ["%%time", *_]:
                lines[row] = _comment(lines[row])
            case ["%%capture"]:
                lines[row] = _comment(lines[row])
                silent = True
            case [magic, *_] if magic in _NOT_RUN:
                lines.clear()
            case _:
                break
        row += 1
    # From here on a magic takes a line, and `row` is always where a statement begins.
    while row < len(lines):
        lines[row] = _TIME.sub(r"\1", lines[row])
        text = lines[row].strip()
        if _HARMLESS.match(text):
            goes_on = lines[row].endswith("\\\n")
            lines[row] = _comment(lines[row])
            row += 1
            while goes_on and row < len(lines):
                goes_on = lines[row].endswith("\\\n")
                lines[row] = "\n"
                row += 1
        elif _MAGIC.match(text):
            _refuse(
                f"{name}, line {row + 1}: cannot run {text!r}; "
                "delete the line, or write in Python what it does"
            )
        else:
            row += _rows(lines[row:])
    return silent


def _comment(line: str) -> str:
    """Make a comment of a line, and also a statement where it may be a block's only one."""
    text = line.lstrip()
    indent = line[: len(line) - len(text)]
    return f"{indent}pass  # {text}" if indent else f"# {text}"


def _rows(lines: list[str]) -> int:
    """Return how many of `lines` the statement takes that begins at the first."""
    if not lines[0].strip() or lines[0].lstrip().startswith("#"):
        return 1
    try:
        for token in tokenize.generate_tokens(iter(lines).__next__):
            if token.type == tokenize.NEWLINE:
                return token.end[0]
    except (tokenize.TokenError, SyntaxError):
        pass
    # It does not end, so what looks like a magic below is part of it. Parsing will tell.
    return len(lines)
