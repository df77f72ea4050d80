"""What the tests of Value and Array try, and how both packages are compared."""

import ctypes
import decimal
import multiprocessing
import multiprocessing.sharedctypes

import fastmp
import fastmp.sharedctypes
from fastmp import _core

CODES = sorted(fastmp.sharedctypes.typecode_to_type)
NUMBERS = [code for code in CODES if code not in "cu"]


class Index:
    def __index__(self):
        return 5


class Float:
    def __float__(self):
        return 2.5


class Refuses:
    def __index__(self):
        raise LookupError("no")

    __float__ = __index__


class Int(int):
    def __index__(self):
        raise AssertionError("an int is an int already")


class Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_double), ("name", ctypes.c_char * 4))


class Pair(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_int))


class Number(ctypes.Union):
    _fields_ = (("i", ctypes.c_int), ("f", ctypes.c_float))


class OwnInt(ctypes.c_int):
    pass


class Shorts(ctypes.c_short * 3):
    def __getitem__(self, key):
        return "mine"


OBJECTS = [
    0, 1, -1, 7, 127, 128, -129, 255, 256, 2**15, 2**30 - 1, 1 - 2**30, 2**30, -(2**30),
    2**31, -(2**31) - 1, 2**32, 2**53 + 1, 2**63,
    -(2**63) - 1, 2**64 + 3, 2**2000, True, False, Int(9), 1.5, -0.0, 1e39, 1e300, float("inf"),
    float("nan"), decimal.Decimal("1.5"), 1j, "", "x", "é", "😀", "\ud800", "xy", b"", b"x", b"xy",
    bytearray(b"z"), memoryview(b"m"), None, Index(), Float(), Refuses(), [], (1,), {}, object,
]  # fmt: skip


def outcome(action, *args):
    """The repr of what it returns, or the exception's type and text."""
    try:
        return repr(action(*args))
    except Exception as e:
        return type(e), str(e)


def same(action):
    """Asserts that *action*, called with either package, comes to the same; returns what."""
    ours, theirs = outcome(action, fastmp), outcome(action, multiprocessing)
    assert ours == theirs
    return ours


def each_way(action, *pairs):
    """Asserts that *action*, called with ours and theirs, comes to the same for each pair."""
    for ours, theirs, *args in pairs:
        assert outcome(action, ours, *args) == outcome(action, theirs, *args), args


def is_native(obj):
    return isinstance(obj, _core.Synced)


def filled(mp, code, n=6):
    values = {"c": bytes(range(65, 65 + n)), "u": "abcdéf😀xyz"[:n]}.get(code, range(3, 3 + n))
    return mp.Array(code, values)


def set_item(a, key, value):
    a[key] = value
    return a[:]
