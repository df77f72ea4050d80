"""Value, and what it has in common with Array: whatever the stdlib's give or raise."""

import ctypes
import gc
import multiprocessing
import multiprocessing.sharedctypes
import pickle
import sys
import sysconfig
import threading
import weakref

import pytest

import fastmp
import fastmp.sharedctypes
from fastmp import _core
from tests.support.sharedctypes import (
    CODES,
    OBJECTS,
    Number,
    OwnInt,
    Point,
    each_way,
    is_native,
    same,
)

# --- Value -----------------------------------------------------------------------------------


def set_value(value, x):
    value.value = x
    return value.value


@pytest.mark.parametrize("code", CODES)
def test_a_value_takes_and_gives_what_the_stdlibs_does(code):
    ours, theirs = fastmp.Value(code), multiprocessing.Value(code)
    assert is_native(ours)
    assert repr(ours.value) == repr(theirs.value)
    each_way(set_value, *((ours, theirs, x) for x in OBJECTS))
    for x in OBJECTS:
        same(lambda mp, x=x: mp.RawValue(code, x).value)


@pytest.mark.parametrize("code", CODES)
def test_a_value_of_a_ctypes_type(code):
    type_ = fastmp.sharedctypes.typecode_to_type[code]
    same(lambda mp: mp.Value(type_).value)
    assert is_native(fastmp.Value(type_))
    assert type(fastmp.RawValue(type_)) is type(fastmp.RawValue(code)) is type_


def test_the_typecodes_are_the_stdlibs():
    assert (
        fastmp.sharedctypes.typecode_to_type == multiprocessing.sharedctypes.typecode_to_type
    )  # fmt: skip
    for code in ["z", "", "ii", 5, None, b"i", [], object()]:
        outcome_ = same(lambda mp, code=code: mp.Value(code) and None)
        assert isinstance(outcome_, tuple), code


@pytest.mark.parametrize(
    "type_",
    [
        ctypes.c_bool, ctypes.c_longdouble, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int16,
        ctypes.c_int.__ctype_be__, ctypes.c_double.__ctype_be__, OwnInt,
    ],
)  # fmt: skip
def test_values_of_other_simple_types(type_):
    ours, theirs = fastmp.Value(type_), multiprocessing.Value(type_)
    each_way(set_value, *((ours, theirs, x) for x in [*OBJECTS, 3]))
    assert type(ours.get_obj()) is type_


@pytest.mark.parametrize("code", "bBhHiIlLqQfd")
def test_what_was_set_is_forgotten_when_it_is_no_longer_the_value(code):
    v = fastmp.Value(code)
    plain = v.get_obj()
    for x in (1, 100, -3, 300, 70_000, 2**31 + 5, 2**32 - 7, 1 << 29, -(1 << 29)):
        v.value = x
        expected = plain.value
        assert repr(v.value) == repr(v.value) == repr(expected)
        plain.value = x + 1
        assert repr(v.value) == repr(plain.value)
        plain.value = x
        assert repr(v.value) == repr(expected)


def test_what_was_set_and_is_not_read_as_that():
    ours, theirs = fastmp.Value("q"), multiprocessing.Value("q")
    each_way(lambda v, x: repr(set_value(v, x)), *((ours, theirs, x) for x in (True, Number(7), 7)))
    v = fastmp.Value("d")
    v.value = -0.0
    v.get_obj().value = 0.0
    assert repr(v.value) == "0.0"
    v.value = 3
    assert repr(v.value) == "3.0"


def test_a_value_keeps_one_object():
    numbers = [i + 0.5 for i in range(100)]
    counts = [sys.getrefcount(x) for x in numbers]
    v = fastmp.Value("d")
    for x in numbers:
        v.value = x
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        assert v.value is x
    del v, x
    gc.collect()
    assert [sys.getrefcount(x) for x in numbers] == counts


def test_value_arguments():
    same(lambda mp: mp.Value("i", 1, 2) and None)
    same(lambda mp: mp.Value() and None)
    same(lambda mp: mp.Value("d", 2).value)
    same(lambda mp: mp.Value("c", b"q").value)
    same(lambda mp: mp.Value(Point, 1, 2.5, b"abc").y)
    same(lambda mp: mp.Value(Point, 1, z=3) and None)
    same(lambda mp: mp.RawValue(Point, x="no") and None)


def test_value_cannot_be_deleted():
    v = fastmp.Value("i", 3)
    with pytest.raises(AttributeError):
        del v.value
    with pytest.raises(AttributeError):
        v._obj = None
    assert v.value == 3


def test_value_by_a_name_that_is_not_interned():
    v = fastmp.Value("i", 3)
    name = "".join(["va", "lue"])
    setattr(v, name, 4)
    assert getattr(v, name) == v.value == 4
    v.other = 5
    assert v.other == 5
    assert "other" in v.__dict__


def test_structures():
    ours, theirs = fastmp.Value(Point, 1, 2.5, b"abc"), multiprocessing.Value(Point, 1, 2.5, b"abc")
    for wrapper in (ours, theirs):
        wrapper.x += 4
        wrapper.y = 7
        assert (wrapper.x, wrapper.y, wrapper.name) == (5, 7.0, b"abc")
        assert (wrapper.get_obj().x, type(wrapper.get_obj())) == (5, Point)
        assert type(wrapper).__name__ == "SynchronizedPoint"
        with wrapper:
            wrapper.name = b"xy"
        assert wrapper.get_obj().name == b"xy"
        with pytest.raises(TypeError):
            wrapper.x = "no"
    assert repr(ours).startswith("<SynchronizedPoint wrapper for <")
    assert type(ours) is type(fastmp.Value(Point))
    union = fastmp.Value(Number, 3)
    union.f = 1.0
    assert union.i == 0x3F800000


# --- locks, names, classes -------------------------------------------------------------------


@pytest.mark.parametrize("make", ["Value", "Array"])
def test_the_lock_argument(make):
    def with_lock(lock):
        return lambda mp: type(getattr(mp, make)("i", 2, lock=lock)).__name__

    for lock in (True, None, False, 1, 0, 5, "x", [], object):
        same(with_lock(lock))
    for mp in (fastmp, multiprocessing):
        for name in ("Lock", "RLock", "Semaphore", "Condition"):
            lock = getattr(mp, name)()
            obj = getattr(mp, make)("i", 2, lock=lock)
            assert obj.get_lock() is obj._lock is lock
        assert type(getattr(mp, make)("i", 2).get_lock()).__name__ == "RLock"
    with pytest.raises(AttributeError, match=r"^5 has no method 'acquire'$"):
        getattr(fastmp, make)("i", 2, lock=5)


class Recorder:
    """A lock of somebody's own."""

    def __init__(self):
        self.calls = []

    def acquire(self):
        self.calls.append("acquire")

    def release(self):
        self.calls.append("release")

    def __enter__(self):
        self.calls.append("enter")

    def __exit__(self, *args):
        self.calls.append("exit")


def test_a_foreign_lock_is_called_as_the_stdlib_calls_it():
    def calls(mp):
        lock = Recorder()
        v, a = mp.Value("i", 3, lock=lock), mp.Array("c", 3, lock=lock)
        v.value += 1
        a[0] = b"x"
        a.value = b"yz"
        with v:
            list(a)
        return lock.calls

    assert "enter" in same(calls)


@pytest.mark.parametrize("lock", [threading.Lock, threading.RLock, multiprocessing.RLock, Recorder])
def test_any_lock_will_do(lock):
    v, a = fastmp.Value("i", 3, lock=lock()), fastmp.Array("i", 3, lock=lock())
    v.value += 1
    a[1] = v.value
    assert a[:] == [0, 4, 0]
    assert memoryview(a).tolist() == [0, 4, 0]


def test_locking_by_hand():
    for mp in (fastmp, multiprocessing):
        v, a = mp.Value("i"), mp.Array("i", 3)
        for obj in (v, a):
            assert obj.acquire() is True
            assert obj.acquire(False) is True
            assert obj.acquire(True, 1) is True
            assert obj.get_lock().acquire(timeout=0.1) is True
            for _ in range(4):
                obj.release()
            with pytest.raises(AssertionError):
                obj.release()
            with obj as entered:
                assert entered is True
                with obj.get_lock():
                    pass


@pytest.mark.parametrize("make", [lambda mp: mp.Value("i"), lambda mp: mp.Array("i", 3)])
def test_get_lock(make):
    for mp in (fastmp, multiprocessing):
        obj, other = make(mp), make(mp)
        assert obj.get_lock() is obj.get_lock() is obj._lock
        assert obj.get_lock() is not other.get_lock()
        assert getattr(obj, "".join(["get_", "lock"]))() is obj.get_lock()
        assert obj.get_lock.__name__ == "get_lock"
        for wrong in (lambda obj=obj: obj.get_lock(1), lambda obj=obj: obj.get_lock(x=1)):
            with pytest.raises(TypeError, match="get_lock"):
                wrong()
        obj.get_lock = other.get_lock
        assert obj.get_lock() is other.get_lock()
        del obj.get_lock
        assert obj.get_lock() is obj._lock


def test_values_are_in_no_circle():
    v = fastmp.Value("i")
    with v.get_lock():
        v.value += 1
    lock, dead = weakref.ref(v.get_lock()), weakref.ref(v)
    gc.disable()
    try:
        del v
        assert dead() is None
        assert lock() is None
    finally:
        gc.enable()


def test_a_lock_that_is_not_recursive_is_held_while_it_is_used():
    v = fastmp.Value("i", 1, lock=fastmp.Lock())
    v.value += 1
    assert v.value == 2
    assert not v.get_lock().locked()
    with pytest.raises(ValueError, match="released too many times"):
        v.release()


def test_classes_and_names():
    ours, theirs = fastmp.sharedctypes, multiprocessing.sharedctypes
    assert not set(dir(theirs)) - set(dir(ours)) - {"heap", "reduction"}
    assert ours.__all__ == theirs.__all__
    for obj, name in [
        (fastmp.Value("i"), "Synchronized"),
        (fastmp.Array("i", 2), "SynchronizedArray"),
        (fastmp.Array("c", 2), "SynchronizedString"),
        (fastmp.Value(Point), "SynchronizedBase"),
    ]:
        assert isinstance(obj, getattr(ours, name))
        assert isinstance(obj, getattr(theirs, name))
        assert isinstance(obj, theirs.SynchronizedBase)
        assert isinstance(obj, ours.SynchronizedBase)
        assert name == "SynchronizedBase" or type(obj).__name__ == name
    assert issubclass(ours.SynchronizedString, ours.SynchronizedArray)
    assert isinstance(fastmp.Array("c", 2), ours.SynchronizedArray)


def test_repr():
    same(lambda mp: mp.Value("i", 7))
    same(lambda mp: mp.Value("c", b"x"))
    same(lambda mp: mp.RawValue("d", 1.5))
    for a in (fastmp.Array("i", 3), fastmp.Array("c", 3)):
        assert repr(a) == f"<{type(a).__name__} wrapper for {a.get_obj()}>"


def test_synchronized_and_copy():
    ours = fastmp.sharedctypes
    raw = fastmp.RawValue("i", 5)
    v = ours.synchronized(raw)
    assert v.get_obj() is raw
    assert is_native(v)
    v.value = 6
    assert raw.value == 6
    with pytest.raises(AssertionError, match="object already synchronized"):
        ours.synchronized(v)
    other = ours.copy(raw)
    other.value = 9
    assert (raw.value, other.value, type(other)) == (6, 9, ctypes.c_int)
    point = ours.copy(Point(1, 2.5, b"abc"))
    assert (point.x, point.y, point.name) == (1, 2.5, b"abc")
    a = ours.copy((ctypes.c_int * 3)(1, 2, 3))
    assert a[:] == [1, 2, 3]
    assert isinstance(a._wrapper, _core.Block)


def test_an_object_that_may_move_is_not_native():
    raw = (ctypes.c_int * 2)(1, 2)
    a = fastmp.sharedctypes.synchronized(raw)
    assert not is_native(a)
    ctypes.resize(raw, 1 << 20)
    a[1] = 5
    assert raw[:] == [1, 5]


def test_a_stdlib_object_under_our_lock():
    theirs = multiprocessing.RawArray("i", 3)
    a = fastmp.sharedctypes.synchronized(theirs, fastmp.RLock())
    assert is_native(a)
    a[1] = 4
    assert theirs[:] == [0, 4, 0]


class Counted(fastmp.sharedctypes.SynchronizedArray):
    entered = 0

    def __enter__(self):
        self.entered += 1
        return super().__enter__()


class Doubled(fastmp.sharedctypes.Synchronized):
    def __init__(self, obj, lock=None, ctx=None):
        super().__init__(obj, lock, ctx)
        self.note = "kept"

    @property
    def double(self):
        return 2 * self.value


def test_a_subclass_runs_in_python():
    a = Counted(fastmp.RawArray("i", 3))
    a[0] = 4
    assert (a[:], a.entered) == ([4, 0, 0], 2)
    v = Doubled(fastmp.RawValue("i", 3), lock=fastmp.Lock())
    v.value += 1
    assert (v.double, v.note) == (8, "kept")
    assert not is_native(a)
    assert not is_native(v)
    assert memoryview(a)[0] == 4


def test_the_public_classes_can_be_called():
    ours = fastmp.sharedctypes
    v = ours.Synchronized(fastmp.RawValue("i", 3), fastmp.RLock())
    a = ours.SynchronizedArray(fastmp.RawArray("i", 3), ctx=fastmp.get_context("spawn"))
    s = ours.SynchronizedString(fastmp.RawArray("c", b"abc"), lock=fastmp.RLock())
    assert all(is_native(obj) for obj in (v, a, s))
    assert (v.value, a[:], s.value) == (3, [0, 0, 0], b"abc")
    # As in the stdlib, where any pairing works until it is used.
    assert ours.SynchronizedArray(fastmp.RawArray("c", b"abc"), fastmp.RLock())[:] == b"abc"


def test_pickling_outside_of_spawning():
    def pickled(name):
        return lambda mp: pickle.dumps(made(mp)[name])

    def made(mp):
        return {
            "v": mp.Value("i"),
            "a": mp.Array("i", 2),
            "s": mp.Array("c", 2),
            "p": mp.Value(Point),
        }

    for name in "vasp":
        assert same(pickled(name))[0] is RuntimeError

    def raw(mp):
        return mp.reduction.ForkingPickler.dumps(mp.RawValue("i"))

    assert same(raw)[0] is RuntimeError
    same(lambda mp: mp.reduction.ForkingPickler.dumps(mp.RawArray("i", 3)))
    with pytest.raises(RuntimeError, match="through inheritance"):
        pickle.dumps(fastmp.RawValue("i")._wrapper)
