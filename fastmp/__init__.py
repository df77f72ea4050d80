"""Python's ``multiprocessing``, natively in C over shared memory.

``import fastmp as multiprocessing``, or ``fastmp.install()`` to make every later
``import multiprocessing`` give fastmp.  The API is the standard library's.
"""

import sys

from . import _std, context, process, reduction  # noqa: F401  (the stdlib's package has them)
from .errors import CorruptionError, WorkerLostError

#: Functions of the default context, as in the stdlib, and what fastmp adds.
__all__ = [x for x in dir(context._default_context) if not x.startswith("_")]
globals().update((name, getattr(context._default_context, name)) for name in __all__)
__all__ += ["CorruptionError", "WorkerLostError"]

SUBDEBUG = 5
SUBWARNING = 25

# The main module's alias; a bootstrapping child process resets it.
if "__main__" in sys.modules:
    sys.modules["__mp_main__"] = sys.modules["__main__"]
