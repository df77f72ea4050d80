"""Modules that take long to import, and that few of a file's functions use."""

import importlib
import importlib.util


class Later:
    """A module that is imported when something of it is used."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        return getattr(importlib.import_module(self._name), attribute)


def later(name):
    """The module *name*, or None when it is not installed."""
    return Later(name) if importlib.util.find_spec(name) is not None else None
