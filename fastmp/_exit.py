"""The stdlib's exit function, in its place among the exit handlers though ``util`` comes late.

The stdlib registers it as ``multiprocessing.util`` is imported; what a program registers later runs
before it.  Here that place is kept for it until the module is loaded, which a program that has
joined its processes may end without.
"""

import atexit
import sys
from importlib import import_module

from . import _std, process

TYPE_CHECKING = False  # for type checkers, without importing typing
if TYPE_CHECKING:
    from typing import Any

__all__ = ["chosen", "handler", "keep_place"]


class _Handler:
    """Calls the stdlib's exit function when there is anything for it to do.

    For ``atexit.unregister()`` it is that function.
    """

    def __init__(self):
        self._util: Any = None  # once it is loaded
        self.function: Any = None  # its exit function, as it was then
        self._has_place = False

    def __call__(self):
        if process._children and self._util is None:
            import_module("multiprocessing.util")._exit_function  # noqa: B018  (loads it)
        util = self._util
        if util is None:
            return
        if util._finalizer_registry or process._children or util._logger:
            self.function()
        else:
            util._exiting = True

    def __eq__(self, other):
        return other is self or other is self.function is not None

    def __hash__(self):
        return hash(self.function)

    def keep_place(self):
        if self._util is None and not self._has_place:
            atexit.register(self)
            self._has_place = True

    def know(self, util):
        if self._has_place:
            atexit.unregister(util._exit_function)  # which it has just registered
        self._util = util
        self.function = util._exit_function

    def chosen(self):
        """What a process is to call: this, or what somebody has put in the function's place."""
        util = sys.modules.get("multiprocessing.util")
        function = vars(util).get("_exit_function", self.function) if util else self.function
        return self if function is self.function else function


handler = _Handler()
chosen = handler.chosen
keep_place = handler.keep_place

_std.when_loaded("util", handler.know)
