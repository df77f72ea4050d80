"""Value, Array and their raw forms: whatever the stdlib's give or raise, and the buffers beside."""

import ctypes
import decimal
import gc
import itertools
import multiprocessing
import multiprocessing.sharedctypes
import os
import pickle
import threading
import weakref
from array import array

import pytest

import fastmp
import fastmp.sharedctypes
from fastmp import _core
from tests.support.later import later

numpy = later("numpy")

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


# --- Array: making ---------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("initial", [0, 1, 5, 3000])
def test_an_array_is_zeroed(code, initial):
    got = same(lambda mp: mp.Array(code, initial)[:])
    assert got == same(lambda mp: mp.RawArray(code, initial)[:])
    assert len(fastmp.Array(code, initial)) == initial


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("make", ["Array", "RawArray"])
def test_an_array_from_a_sequence(code, make):
    sequences = [
        [1, 2, 3], (1, 2, 300), range(4), [1.5, 2], [True], [b"a", b"b"], ["a", "é", "😀"], b"abc",
        bytearray(b"\xff\0"), [], "", b"", [1, "x"], [Index(), 2], [Refuses()], [2**70], None, 1.5,
        {1: 2}, {3, 4}, array("i", [1, -2]), array("d", [1, 2.5]), array("B", [255]), "abc", -1,
        array("b", [-1]), array("q", [2**40, -1]), memoryview(b"xyz"), (c_short * 3)(1, 2, 3),
        iter([1]), memoryview(bytes(8)).cast("B", (2, 4)),
    ]  # fmt: skip
    for sequence in sequences:
        same(lambda mp, s=sequence: getattr(mp, make)(code, s)[:])


c_short = ctypes.c_short


@pytest.mark.parametrize("size", [-1, 2**62, 2**63, 2**64])
def test_an_array_of_an_impossible_size(size):
    assert isinstance(same(lambda mp: mp.Array("i", size) and None), tuple)


def test_array_arguments():
    same(lambda mp: mp.Array("i") and None)
    same(lambda mp: mp.Array("i", 2, True) and None)
    same(lambda mp: mp.Array("nonsense", 2) and None)
    same(lambda mp: mp.RawArray(int, 2) and None)


def test_arrays_of_other_types():
    points = fastmp.Array(Point, [(1, 2.5), (3, 4.5)])
    assert not is_native(points)
    assert [(p.x, p.y) for p in points] == [(1, 2.5), (3, 4.5)]
    points[0].x = 9
    assert points.get_obj()[0].x == 9
    same(lambda mp: [list(row) for row in mp.Array(ctypes.c_int * 2, 3)])
    same(lambda mp: mp.Array(ctypes.c_short.__ctype_be__, [1, 2])[:])
    same(lambda mp: mp.Array(ctypes.c_longdouble, [1, 2])[:])
    same(lambda mp: mp.Array(OwnInt, 2)[0].value)
    same(lambda mp: mp.sharedctypes.synchronized(mp.RawValue(Shorts))[0])


# --- Array: items and slices -----------------------------------------------------------------

BOUNDS = [None, 0, 2, 5, 100, -1, -3, -100]
STEPS = [None, 1, 2, 3, 100, -1, -2, -100]


def filled(mp, code, n=6):
    values = {"c": bytes(range(65, 65 + n)), "u": "abcdéf😀xyz"[:n]}.get(code, range(3, 3 + n))
    return mp.Array(code, values)


def set_item(a, key, value):
    a[key] = value
    return a[:]


def set_slice(a, key, value):
    before = a[:]
    try:
        a[key] = value
        return a[:]
    finally:
        a[:] = before


@pytest.mark.parametrize("code", CODES)
def test_items(code):
    ours, theirs = filled(fastmp, code), filled(multiprocessing, code)
    assert is_native(ours)
    keys = [*range(-8, 8), True, 2**70, -(2**70), Index(), Refuses(), Int(1), None, "0", 1.0, ()]
    each_way(lambda a, k: a[k], *((ours, theirs, key) for key in keys))
    each_way(set_item, *((ours, theirs, key, ours[0]) for key in keys))
    each_way(set_item, *((ours, theirs, 1, x) for x in OBJECTS))
    for a in (ours, theirs):
        with pytest.raises(AttributeError, match="__delitem__"):
            del a[0]


@pytest.mark.parametrize("code", CODES)
def test_slices(code):
    ours, theirs = filled(fastmp, code), filled(multiprocessing, code)
    keys = [slice(*args) for args in itertools.product(BOUNDS, BOUNDS, STEPS)]
    keys += [slice(0, 1, 0), slice("a"), slice(Index()), slice(1.0), slice(2**70), slice(Refuses())]
    each_way(lambda a, k: a[k], *((ours, theirs, key) for key in keys))
    source = filled(multiprocessing, code)[:]
    new = source[::-1]
    for key in keys[::7]:
        n = len(source[key]) if key.step != 0 and not isinstance(key.stop, str) else 1
        each_way(set_slice, (ours, theirs, key, new[:n]), (ours, theirs, key, list(new)[:n]))
        each_way(set_slice, (ours, theirs, key, tuple(new[: n + 1])), (ours, theirs, key, []))


@pytest.mark.parametrize("code", CODES)
def test_what_a_slice_takes(code):
    ours, theirs = filled(fastmp, code), filled(multiprocessing, code)
    lists = [[x, 1, 2] for x in OBJECTS] + [[ours[0], x, ours[1]] for x in OBJECTS]
    others = [
        range(3), b"abc", "abc", bytearray(b"abc"), array("i", [1, -2, 3]), array("d", [1, 2.5, 3]),
        array("b", [1, -2, 3]), array("B", [1, 255, 3]), array("Q", [2**63, 1, 2]),
        array("f", [1, 2, 3]), memoryview(b"abc"), memoryview(b"abcdef")[::2],
        (c_short * 3)(1, 2, 3), (ctypes.c_wchar * 3)("a", "b", "c"),
        (ctypes.c_char * 3)(b"a", b"b", b"c"), 5, None, {1: 2}, (Point * 3)(), {1, 2, 3}, [1],
        (ctypes.c_int.__ctype_be__ * 3)(1, 2, 3), iter([1, 2, 3]), [1] * 4,
    ]  # fmt: skip
    for value in [*lists, *others]:
        for key in (slice(1, 4), slice(None, None, 2), slice(4, 1, -1)):
            each_way(set_slice, (ours, theirs, key, value))


def test_a_slice_that_fails_half_way_keeps_the_first_half():
    for mp in (fastmp, multiprocessing):
        a = mp.Array("i", 4)
        with pytest.raises(TypeError):
            a[:] = [1, 2, "x", 4]
        assert a[:] == [1, 2, 0, 0]


def test_a_list_that_shrinks_while_it_is_assigned():
    class Shrinks:
        def __init__(self, values):
            self.values = values

        def __index__(self):
            del self.values[2:]
            return 7

    def assign(mp):
        a, values = mp.Array("i", 4), [1]
        values += [Shrinks(values), 3, 4]
        try:
            a[:] = values
        except IndexError as e:
            return str(e), a[:]

    same(assign)


def test_assigning_an_array_to_itself():
    def assign(mp):
        a = mp.Array("i", range(6))
        a[1:4] = a
        return a[:]

    same(assign)
    a = fastmp.Array("i", range(6))
    a[1:5] = memoryview(a)[0:4]
    b = multiprocessing.Array("i", range(6))
    b[1:5] = memoryview(b.get_obj()).cast("B").cast("i")[0:4]
    assert a[:] == b[:]


@pytest.mark.parametrize("code", CODES)
def test_iteration(code):
    ours, theirs = filled(fastmp, code), filled(multiprocessing, code)
    each_way(list, (ours, theirs))
    each_way(len, (ours, theirs))
    each_way(lambda a: list(reversed(a)), (ours, theirs))
    each_way(lambda a: a[2] in a, (ours, theirs))
    each_way(lambda a: "nothing like it" in a, (ours, theirs))
    it = iter(ours)
    assert next(it) == ours[0]
    assert list(it) == list(ours)[1:]
    assert list(it) == []
    assert list(it) == []


def test_an_iterator_keeps_the_array():
    it = iter(fastmp.Array("i", range(4)))
    gc.collect()
    assert list(it) == [0, 1, 2, 3]


# --- strings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 5, 255, 256, 257, 5000])
def test_value_and_raw_of_a_string(size):
    ours, theirs = fastmp.Array("c", size), multiprocessing.Array("c", size)
    assert is_native(ours)
    texts = [b"x" * n for n in (0, 1, size - 1, size, size + 1) if n >= 0]
    texts += [b"a\0b", b"\0", "text", 5, None, bytearray(b"a"), memoryview(b"a"), [b"a"]]

    def assign(name):
        def set_it(s, text):
            s.raw = b"." * size
            setattr(s, name, text)
            return s.value, s.raw, s[:]

        return set_it

    for name in ("value", "raw"):
        each_way(assign(name), *((ours, theirs, text) for text in texts))
    for s in (ours, theirs):
        with pytest.raises(AttributeError):
            del s.value
        with pytest.raises(AttributeError):
            del s.raw


def test_only_strings_have_value_and_raw():
    for code in [*NUMBERS, "u"]:
        assert not hasattr(fastmp.Array(code, 3), "value")
        assert not hasattr(fastmp.Array(code, 3), "raw")
    same(lambda mp: mp.Array("u", "hé").get_obj().value)


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


# --- buffers ---------------------------------------------------------------------------------

FORMATS = {"u": "w"}


@pytest.mark.parametrize("code", CODES)
def test_memoryview_of_an_array(code):
    a = filled(fastmp, code)
    view = memoryview(a)
    size = ctypes.sizeof(fastmp.sharedctypes.typecode_to_type[code])
    assert (view.shape, view.itemsize, view.readonly) == ((6,), size, False)
    if code != "u":
        assert view.tolist() == list(a)
        view[1] = view[0]
        assert a[1] == a[0]
    # longlong is long's size here, and either letter means it.
    assert view.format in (FORMATS.get(code, code), {"q": "l", "Q": "L"}.get(code))


@pytest.mark.parametrize("code", NUMBERS)
def test_memoryview_of_a_value(code):
    v = fastmp.Value(code, 5)
    view = memoryview(v)
    assert (view.shape, view.ndim, view[()]) == ((), 0, 5)
    view[()] = 6
    assert v.value == 6


def test_buffers_of_raw_and_other_objects():
    assert bytes(fastmp.RawArray("h", [1, 2])) == b"\1\0\2\0"
    assert memoryview(fastmp.Value(Point, 1)).nbytes == ctypes.sizeof(Point)
    a = fastmp.RawArray("i", 3)
    memoryview(a).cast("B")[0] = 7
    assert a[:] == [7, 0, 0]
    assert memoryview(fastmp.Array(ctypes.c_int * 2, 3)).shape == (3, 2)
    assert memoryview(fastmp.Array("i", 0)).nbytes == 0


def test_a_buffer_outlives_its_array():
    a = fastmp.Array("i", range(100_000))
    v = fastmp.Value("i", 5)
    views = memoryview(a), memoryview(v), memoryview(a.get_obj())
    dead = weakref.ref(a)
    del a, v
    gc.collect()
    assert dead() is None
    assert views[0][99_999] == 99_999
    assert views[1][()] == 5
    views[0][0] = 3
    assert views[2].cast("B")[0] == 3


@pytest.mark.skipif(numpy is None, reason="needs numpy")
@pytest.mark.parametrize("code", NUMBERS)
def test_numpy_shares_the_memory(code):
    type_ = fastmp.sharedctypes.typecode_to_type[code]
    for a in (fastmp.Array(code, 5), fastmp.RawArray(code, 5)):
        n = numpy.asarray(a)
        assert n.dtype == numpy.dtype(type_)
        assert (n.shape, n.flags.writeable, n.flags.owndata) == ((5,), True, False)
        n[:] = range(5)
        assert a[:] == [0, 1, 2, 3, 4]
        a[2] = 7
        assert n[2] == 7
        del a
        gc.collect()
        assert n[2] == 7
    for v in (fastmp.Value(code, 3), fastmp.RawValue(code, 3)):
        n = numpy.asarray(v)
        assert (n.shape, n.dtype, n[()]) == ((), numpy.dtype(type_), 3)
        n[()] = 4
        assert v.value == 4


@pytest.mark.skipif(numpy is None, reason="needs numpy")
def test_numpy_and_the_other_types():
    assert numpy.asarray(fastmp.Array("c", b"abc")).tolist() == [b"a", b"b", b"c"]
    assert numpy.asarray(fastmp.Array("u", "aé😀")).tolist() == ["a", "é", "😀"]
    n = numpy.asarray(fastmp.Array(Pair, [(1, 2), (3, 4)]))
    assert (n["x"].tolist(), n["y"].tolist()) == ([1, 3], [2, 4])
    assert numpy.asarray(fastmp.Array(ctypes.c_bool, [True, False])).dtype == bool
    assert numpy.frombuffer(fastmp.Array("d", 3).get_obj()).shape == (3,)


@pytest.mark.skipif(numpy is None, reason="needs numpy")
def test_assigning_numpy_arrays():
    def assign(mp):
        a, d = mp.Array("i", 4), mp.Array("d", 4)
        a[:] = numpy.arange(4, dtype="i4")
        a[1:3] = numpy.array([7, 8], dtype="i8")
        d[:] = numpy.arange(4, dtype="f8") / 2
        d[::2] = numpy.array([9, 9], dtype="f4")
        d[3] = numpy.float32(1.5)
        a[0] = numpy.int64(-5)
        return a[:], d[:], mp.Array("d", numpy.ones(3))[:], a[numpy.int64(1)]

    same(assign)
    same(lambda mp: set_item(mp.Array("i", 2), slice(None), numpy.ones(2)))
    same(lambda mp: set_item(mp.Array("i", 2), slice(None), numpy.ones((2, 2), "i4")))
    same(lambda mp: set_item(mp.Array("i", 4), slice(None), numpy.arange(8, dtype="i4")[::2]))
    same(lambda mp: set_item(mp.Array("i", 4), slice(None), numpy.arange(4, dtype=">i4")))
    same(lambda mp: mp.Array("d", numpy.ones((2, 2))) and None)
    same(lambda mp: mp.Array("i", numpy.int64(3)) and None)


# --- blocks ----------------------------------------------------------------------------------


def test_a_block():
    block = _core.Block(1000)
    view = memoryview(block)
    assert (view.nbytes, view.readonly, block.size) == (1000, False, 1000)
    assert bytes(view) == bytes(1000)
    fd, offset, size = block._share()
    assert fd > 2
    assert offset > 0
    assert size >= 1000
    for bad in (-1, -(2**63)):
        with pytest.raises(ValueError, match="out of range"):
            _core.Block(bad)
    with pytest.raises(OverflowError):
        _core.Block(2**63)
    with pytest.raises(TypeError):
        _core.Block("x")
    with pytest.raises(MemoryError):
        _core.Block(2**63 - 1)


def test_attaching_to_what_is_no_block(tmp_path):
    block = _core.Block(100)
    fd, offset, size = block._share()
    for where, nbytes in [
        ((os.dup(fd), 0, size), 100),
        ((os.dup(fd), offset + 1, size), 100),
        ((os.dup(fd), offset, 2**40), 100),
        ((os.dup(fd), offset, size), size + 1),
        ((os.dup(fd), -64, size), 100),
        ((os.dup(fd), offset, size), -1),
    ]:
        with pytest.raises(fastmp.CorruptionError):
            _core.Block._attach(where, nbytes)
    with open(tmp_path / "file", "wb+") as file:
        file.write(bytes(8192))
        file.flush()
        with pytest.raises(fastmp.CorruptionError):
            _core.Block._attach((os.dup(file.fileno()), 64, 64), 64)
    again = _core.Block._attach((os.dup(fd), offset, size), 100)
    memoryview(again)[5] = 9
    assert memoryview(block)[5] == 9


def test_cycles_are_collected():
    v = fastmp.Value("i")
    v.me = v
    a = fastmp.Array("i", 3)
    a.get_obj().owner = a
    s = fastmp.Array("c", 3)
    s.acquire = s.get_obj  # a bound method of its own
    dead = [weakref.ref(obj) for obj in (v, a, s)]
    it = iter(fastmp.Array("i", 3))
    del v, a, s
    gc.collect()
    assert [ref() for ref in dead] == [None] * 3
    assert next(it) == 0


def test_the_native_type_checks_what_it_is_given():
    native = type(fastmp.Value("i"))
    raw, lock = fastmp.RawValue("i"), fastmp.RLock()
    for args in [
        (), (raw, lock, lock, "i"), (raw, lock, None, "i"), (raw, lock, lock._semlock, "y"),
        (5, lock, lock._semlock, "i"), (b"read-only", lock, lock._semlock, "i"),
        (raw, None, lock._semlock, "i"), (raw, lock, lock._semlock, "ii"),
    ]:  # fmt: skip
        with pytest.raises((TypeError, AttributeError, BufferError)):
            native.__new__(native, *args)
    for obj, code in [(fastmp.RawArray("i", 0), "i"), (fastmp.RawArray("i", 2), "i"), (raw, "q")]:
        with pytest.raises(TypeError):
            native.__new__(native, obj, lock, lock._semlock, code)


@pytest.mark.parametrize(
    "typecode, initial", [("i", [1, 2, 255]), ("d", [1.5]), ("c", b"ab"), ("b", [])]
)
def test_bytes_of_an_array_are_its_items_as_in_the_stdlib(typecode, initial):
    outcomes = []
    for made in (multiprocessing.Array(typecode, initial), fastmp.Array(typecode, initial)):
        try:
            outcomes.append(bytes(made))
        except TypeError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]
