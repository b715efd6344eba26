"""What the extension modules tell the interpreter: that they need its lock, wherever there is one.

On a free-threaded build of Python a module that does not claim safety without the GIL turns it on.
"""

import ctypes
import importlib
import pkgutil
import subprocess
import sys
import sysconfig
from importlib.machinery import EXTENSION_SUFFIXES

import pytest

import fastgrad

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
EXTENSIONS = [
    module
    for found in pkgutil.iter_modules(fastgrad.__path__, "fastgrad.")
    if found.name != "fastgrad.__main__"
    for module in [importlib.import_module(found.name)]
    if module.__file__.endswith(tuple(EXTENSION_SUFFIXES))
]
EXECUTES, GIL = 2, 4  # Py_mod_exec, Py_mod_gil
GIL_USED = None  # Py_MOD_GIL_USED, a null pointer


class Slot(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int), ("value", ctypes.c_void_p)]


class Definition(ctypes.Structure):
    """PyModuleDef, whose head grows on a free-threaded build."""

    _fields_ = [
        ("head", ctypes.c_byte * object.__basicsize__),
        *((name, ctypes.c_void_p) for name in ("init", "index", "copy")),
        *((name, ctypes.c_void_p) for name in ("name", "doc", "size", "methods")),
        ("slots", ctypes.POINTER(Slot)),
    ]


def declared(module):
    """The slots of an extension module's definition, as the interpreter reads them."""
    define = ctypes.PyDLL(module.__file__)[f"PyInit_{module.__name__.rpartition('.')[2]}"]
    define.restype = ctypes.c_void_p
    slots = Definition.from_address(define()).slots
    kinds = {}
    for slot in slots:
        if not slot.kind:
            return kinds
        kinds[slot.kind] = slot.value


def test_extensions_were_found():
    assert {"fastgrad.replay", "fastgrad.tape"} <= {module.__name__ for module in EXTENSIONS}


@pytest.mark.parametrize("module", EXTENSIONS, ids=lambda module: module.__name__)
def test_no_module_claims_to_be_safe_without_the_gil(module):
    slots = declared(module)
    assert slots[EXECUTES]  # they are read aright
    assert slots.get(GIL, GIL_USED) is GIL_USED
    assert (GIL in slots) == FREE_THREADED


@pytest.mark.skipif(not FREE_THREADED, reason="this Python is never without its GIL")
def test_the_gil_is_on_after_import():
    told = "print(sys._is_gil_enabled())"
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; {told}; import fastgrad; {told}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.split() == ["False", "True"]
