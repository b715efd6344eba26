"""Run what was written for micrograd on fastgrad, without editing it.

This module lets you:

- `install`: make every later ``import micrograd`` of this process give fastgrad's modules;
- `run_script`, `run_module`: do that, then run a program as ``python SCRIPT.py`` or
  ``python -m MODULE`` does, with its own ``__main__``, arguments, exit status and traceback;
  a class like micrograd's Value that the program carries itself is replaced if ``adopt.py``
  proves it equal.

A package micrograd beside the program, of which the program's author may have changed anything, is
used as it is unless it is micrograd's own text.

Invariant: an uncaught exception shows the program's frames and no others, because every call
into the program goes through `_call`, and the traceback is reported from below that frame on.

Limitations: who walks the stack sees the runner's frames, as under pdb or cProfile
(``inspect.stack()``; a RecursionError comes some calls early). A script that cannot be decoded is
reported in the words that ``import`` has for it. Of what the program starts, the processes of
multiprocessing are redirected and others are not.
"""

import builtins
import importlib.machinery
import importlib.util
import os
import pkgutil
import runpy
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any, NamedTuple

from fastgrad import engine, nn

_Hook = Callable[[type[BaseException], BaseException, TracebackType | None], Any]
_RUNNERS = {str(Path(__file__).with_name(f"{name}.py")) for name in ("redirect", "adopt", "role")}
PyCF_ONLY_AST = 0x400  # ast's, whose import would cost every script some milliseconds
_run_as_main: Callable[..., None] = vars(runpy)["_run_module_as_main"]  # what python -m calls


class Manner(NamedTuple):
    """How a program is run: is anything replaced, is keeping a class an error, is it said?"""

    as_written: bool = False
    strict: bool = False
    quiet: bool = False


ALIKE = Manner()


def install() -> None:
    """Make ``import micrograd`` give fastgrad's modules for the rest of this process.

    ``micrograd``, ``micrograd.engine`` and ``micrograd.nn`` are replaced, whether the real
    micrograd is missing, installed or already imported. What was taken from the real one before
    (``from micrograd.engine import Value``) stays real, so install first.

    Raises
    ------
    ModuleNotFoundError
        Not here, but where a submodule is imported that fastgrad does not have.

    Examples
    --------
    In a process of its own here, because it lasts:

    >>> import subprocess, sys
    >>> code = '''
    ... import fastgrad
    ... fastgrad.install()
    ... from micrograd.engine import Value
    ... print(Value.__module__)
    ... '''
    >>> subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    'fastgrad.engine\\n'
    """
    # Not the fastgrad package itself: through its __path__, `import micrograd.tape` would load
    # the extension a second time, and with it a second tape.
    spec = importlib.machinery.ModuleSpec("micrograd", loader=None, origin="fastgrad")
    micrograd = importlib.util.module_from_spec(spec)
    vars(micrograd).update(engine=engine, nn=nn)
    sys.modules["micrograd"] = micrograd
    sys.modules["micrograd.engine"] = engine
    sys.modules["micrograd.nn"] = nn


def run_script(path: str, args: Sequence[str] = (), manner: Manner = ALIKE) -> None:
    """Run a script as ``python PATH ARGS`` does, with micrograd redirected to fastgrad.

    It takes ``__main__``, ``sys.argv`` and ``sys.path[0]`` of this process for good.

    Parameters
    ----------
    path : str
        A source file, a notebook (``.ipynb``), or a directory or zip file with a
        ``__main__.py``.
    args : sequence of str
        What the script finds in ``sys.argv[1:]``.
    manner : Manner
        Whether a class like Value that the script carries may be replaced, and what is said.

    Raises
    ------
    SystemExit
        If the script exits, or (status 2) cannot be read.
    BaseException
        Whatever the script lets out. Let it through: the interpreter then reports it as if it
        had run the script itself.

    Examples
    --------
    >>> import subprocess, sys
    >>> code = "from fastgrad.redirect import run_script; run_script('missing.py')"
    >>> subprocess.run([sys.executable, "-c", code], capture_output=True).returncode
    2
    """
    # By hand, as os.path.abspath would tidy "./x.py", which python shows as it is.
    file = path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
    holds_main = pkgutil.get_importer(file) is not None
    folder = file if holds_main else os.path.dirname(os.path.realpath(file))
    beside = "" if sys.flags.safe_path and not holds_main else folder
    main = _take_over([path, *args], manner, beside)
    if not sys.flags.safe_path:
        sys.path[0] = folder
    elif holds_main:
        # -P or not, __main__ is imported from where it was said to be.
        sys.path.insert(0, folder)
    if holds_main:
        _run_by_runpy(manner, "__main__", alter_argv=False)
        return
    loader = importlib.machinery.SourceFileLoader("__main__", file)
    notebook = path.endswith(".ipynb")
    if not notebook:
        vars(main).update(__loader__=loader, __file__=file, __cached__=None)
    try:
        source = loader.get_data(file)
    except OSError as error:
        why = f"[Errno {error.errno}] {error.strerror}"
        print(f"{sys.orig_argv[0]}: can't open file {file!r}: {why}", file=sys.stderr)
        sys.exit(2)
    if notebook:
        from fastgrad.notebook import run_notebook

        run_notebook(path, source, vars(main), partial(_prepare, manner=manner), _call)
        return
    # Not loader.get_code, which would leave a __pycache__ beside the script.
    _call(exec, _compile(source, file, manner), vars(main))


def run_module(name: str, args: Sequence[str] = (), manner: Manner = ALIKE) -> None:
    """Run a module or package as ``python -m NAME ARGS`` does, with micrograd redirected.

    It takes ``__main__`` and ``sys.argv`` of this process for good.

    Parameters
    ----------
    name : str
        Dotted name; of a package its ``__main__`` is run.
    args : sequence of str
        What the module finds in ``sys.argv[1:]``.
    manner : Manner
        As for `run_script`.

    Raises
    ------
    SystemExit
        If the module exits, or (status 1) is not found.
    BaseException
        Whatever the module lets out; see `run_script`.

    Examples
    --------
    >>> import subprocess, sys
    >>> code = "from fastgrad.redirect import run_module; run_module('this')"
    >>> run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    >>> run.stdout.splitlines()[0]
    'The Zen of Python, by Tim Peters'
    """
    _take_over(["-m", *args], manner, "" if sys.flags.safe_path else os.getcwd())
    _run_by_runpy(manner, name)


def _take_over(argv: list[str], manner: Manner, folder: str) -> ModuleType:
    """Make this process the program's: redirected, with its arguments and a blank `__main__`."""
    if not manner.as_written:
        _on_import("traceback", _hide_runner)
        if not _has_own_micrograd(folder):
            install()
            _on_import("multiprocessing.spawn", _patch_spawn)
        elif not manner.quiet:
            print(
                f"fastgrad: micrograd in {folder} left as written: it is not the original",
                file=sys.stderr,
            )
    sys.argv = argv
    main = ModuleType("__main__")
    vars(main).update(__annotations__={}, __builtins__=builtins)
    sys.modules["__main__"] = main
    return main


def _compile(source: bytes, file: str, manner: Manner) -> CodeType:
    """Compile a program's source, so that its own class Value is looked at when it is defined."""
    if manner.as_written or b"__mul__" not in source or b"backward" not in source:
        code: CodeType = _call(compile, source, file, "exec", dont_inherit=True)
        return code
    # Parsed once, as a second parse would repeat its warnings.
    tree = _call(compile, source, file, "exec", PyCF_ONLY_AST, dont_inherit=True)
    _prepare([tree], [file], manner)
    code = _call(compile, tree, file, "exec", dont_inherit=True)
    return code


def _prepare(trees: list[Any], files: list[str], manner: Manner) -> None:
    if manner.as_written:
        return
    from fastgrad.adopt import mark

    mark(trees, files, manner.strict, manner.quiet)


def _run_by_runpy(manner: Manner, *args: Any, **kwargs: Any) -> None:
    """Call what ``python -m`` calls, and compile the program's source here."""
    run_code = vars(runpy)["_run_code"]

    def run_compiled(code: Any, names: Any, init: Any, name: Any, spec: Any) -> Any:
        if isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            code = _compile(spec.loader.get_data(spec.origin), spec.origin, manner)
        return run_code(code, names, init, name, spec)

    vars(runpy)["_run_code"] = run_compiled
    _call(_run_as_main, *args, **kwargs)


def _call(run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call `run`; if an exception ends the interpreter, report it without this frame and above."""
    try:
        return run(*args, **kwargs)
    except SystemExit:
        raise
    except BaseException:
        # Not earlier: the program shall find, and may replace, the hook that python gave it.
        sys.excepthook = _trimming(sys.excepthook)
        raise


def _trimming(hook: _Hook) -> _Hook:
    """Wrap an excepthook so that it gets only the frames below `_call`."""

    def trimmed(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        sys.excepthook = hook
        below = traceback
        while below and below.tb_frame.f_code is not _call.__code__:
            below = below.tb_next
        # Else it is another exception than the program's, say an interrupt on the way out.
        if below:
            error.__traceback__ = below.tb_next
            _trim(error)
            sys.last_traceback = traceback = error.__traceback__
        hook(kind, error, traceback)

    return trimmed


def _trim(error: BaseException) -> None:
    """Leave out the frames of the runner's files and of the extensions, also of its causes."""
    waiting, seen = [error], set()
    while waiting:
        error = waiting.pop()
        seen.add(id(error))
        waiting += [e for e in (error.__cause__, error.__context__) if e and id(e) not in seen]
        kept, traceback = [], error.__traceback__
        while traceback:
            if not _is_runners(traceback.tb_frame.f_code.co_filename):
                kept.append(traceback)
            traceback = traceback.tb_next
        for frame in reversed(kept):
            traceback = TracebackType(traceback, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
        error.__traceback__ = traceback


def _has_own_micrograd(folder: str) -> bool:
    """Would Python import a micrograd from the program's folder that is not the original?"""
    spec = importlib.machinery.PathFinder.find_spec("micrograd", [folder]) if folder else None
    if spec is None:
        return False
    for where in spec.submodule_search_locations or ():
        files = [os.path.join(where, f"{name}.py") for name in _ORIGINAL]
        if not spec.loader and not any(map(os.path.exists, files)):
            return False  # a folder of something else
        return not all(map(_is_original, files, _ORIGINAL.values()))
    return True


# Of micrograd's modules without any white space, sha256.
_ORIGINAL = {"engine": "e04b9c42e0bc924d", "nn": "e73d9d592aae2dc3"}


def _is_original(file: str, digest: str) -> bool:
    import hashlib  # which few programs need

    try:
        text = Path(file).read_bytes()
    except OSError:
        return False
    return hashlib.sha256(b"".join(text.split())).hexdigest().startswith(digest)


class _Patching:
    """A meta path finder that patches a module when it is imported.

    Importing multiprocessing.spawn at once would cost every script 12 ms.
    """

    def __init__(self, name: str, patch: Callable[[Any], None]) -> None:
        self.name, self.patch = name, patch

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        loader: Any = spec and spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            self.patch(module)

        loader.exec_module = exec_module
        return spec


def _on_import(name: str, patch: Callable[[Any], None]) -> None:
    if name in sys.modules:
        patch(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Patching(name, patch))


def _hide_runner(traceback: Any) -> None:
    """Let ``traceback.print_exc()`` in the program show its own frames only, as python does."""
    for name in "walk_tb", "_walk_tb_with_full_positions":  # they yield (frame, where in it)
        walk = getattr(traceback, name, None)
        if walk:
            setattr(traceback, name, _without_runner(walk))


def _without_runner(walk: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def walk_others(traceback: TracebackType | None) -> Any:
        below = traceback
        while below and below.tb_frame.f_code is not _call.__code__:
            below = below.tb_next
        for found in walk(below.tb_next if below else traceback):
            if not _is_runners(found[0].f_code.co_filename):
                yield found

    return walk_others


def _is_runners(file: str) -> bool:
    return file.endswith((".pyx", ".pxd")) or file in _RUNNERS


class _Stowaway:
    """Travels with the data that prepares a spawned process, and redirects it on arrival."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _redirect_child, ()


def _redirect_child() -> None:
    install()
    _on_import("multiprocessing.spawn", _patch_spawn)


def _patch_spawn(spawn: Any) -> None:
    """Have the processes that multiprocessing spawns redirected too, as forked ones are."""
    prepare = spawn.get_preparation_data
    spawn.get_preparation_data = lambda name: {"fastgrad": _Stowaway(), **prepare(name)}
