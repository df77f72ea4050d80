"""Python's ``multiprocessing``, natively in C over shared memory.

``import fastmp as multiprocessing``, or ``fastmp.install()`` to make every later
``import multiprocessing`` give fastmp.  The API is the standard library's.
"""

import importlib
import sys

from . import _std

_is_spawned = sys.argv[1:2] == ["--multiprocessing-fork"]
# pickle and socket come with it: a fifth of a small program's time, and plain values need neither.
_std.load_late("reduction")
if _is_spawned:
    _std.load_late("resource_tracker")
_hook = sys.modules.get("_fastmp_hook")
if _hook is not None and _hook.is_enabled():
    # Before the first of the stdlib's modules is loaded: none of them ever sees the originals.
    _std.replace()

from . import context, process, reduction  # noqa: E402, F401  (the stdlib's package has them)
from ._exit import keep_place  # noqa: E402
from ._install import install, wrap_launch  # noqa: E402
from .errors import (  # noqa: E402
    BrokenPoolError,
    CorruptionError,
    PoolTerminatedError,
    TaskCancelledError,
    TaskTimeoutError,
    WorkerLostError,
)

__all__ = [x for x in dir(context._default_context) if not x.startswith("_")]
globals().update((name, getattr(context._default_context, name)) for name in __all__)
__all__ += [
    "BrokenPoolError",
    "CorruptionError",
    "PoolTerminatedError",
    "TaskCancelledError",
    "TaskTimeoutError",
    "WorkerLostError",
    "install",
]

SUBDEBUG = 5
SUBWARNING = 25

# The main module's alias; a bootstrapping child process resets it.
if "__main__" in sys.modules:
    sys.modules["__mp_main__"] = sys.modules["__main__"]


def _link_managers(managers):
    from . import _manager_rings

    _manager_rings.link(managers)


_std.load_late("util", keep_place)  # with subprocess and what that stands on
_std.when_loaded("managers", _link_managers)
_std.when_loaded("util", wrap_launch)
if _std.is_replaced():
    install()
if _is_spawned:
    keep_place()  # before the main module's handlers
del _hook, _is_spawned, keep_place, wrap_launch


def __getattr__(name):
    # The stdlib's submodules turn up as attributes once anything has imported them.  So do ours.
    if not name.startswith("_") and _std.stdlib_spec(name, name) is not None:
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ImportError as e:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from e
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
