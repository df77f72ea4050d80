"""Stand-in: the stdlib's shared ctypes, until the native ones take their place."""

from . import _std

_std.inherit(globals())
