"""In place of pytest, in the processes that tests start: decorators that decorate nothing.

A spawned child imports the test's module to find the function it is to run, and with it pytest,
which takes ten times as long as all the rest.  What a module needs of pytest while it is imported
is here; anything else brings the real one.
"""

import importlib
import sys
import types

from .later import Later


class _Decorator:
    """`pytest.mark.anything`, with or without arguments, and `pytest.fixture`."""

    def __getattr__(self, name):
        return self

    def __call__(self, *args, **kwargs):
        if len(args) == 1 and not kwargs and callable(args[0]):
            return args[0]
        return self


class LightPytest(types.ModuleType):
    """What `import pytest` gives after `install()`."""

    mark = fixture = param = _Decorator()

    @staticmethod
    def importorskip(name, *args, **kwargs):
        """The module, later: whoever started this process has looked whether it is there."""
        return Later(name)

    def __getattr__(self, name):
        if sys.modules.get("pytest") is self:
            del sys.modules["pytest"]
        return getattr(importlib.import_module("pytest"), name)


def install():
    """Before the first `import pytest`, in a process that a test has started."""
    sys.modules["pytest"] = LightPytest("pytest")
