"""micrograd's engine module: ``Value``, and ``no_grad`` beside it.

The type itself is compiled (``value.pyx``) and open: ``Value.tanh = f`` and ``Value.__add__ = f``
work as on a Python class.  This file gives it the name under which it pickles and prints.
"""

from fastgrad.contexts import no_grad
from fastgrad.value import Value

__all__ = ["Value", "no_grad"]

Value.__module__ = __name__
Value.__name__ = "Value"  # what error messages say, instead of the module it is compiled in
no_grad.__module__ = __name__
