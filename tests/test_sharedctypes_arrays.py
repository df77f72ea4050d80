"""Array: made, indexed, sliced, as a string; whatever the stdlib's gives or raises."""

import ctypes
import gc
import itertools
import multiprocessing
import multiprocessing.sharedctypes
import sysconfig
from array import array

import pytest

import fastmp
import fastmp.sharedctypes
from tests.support.sharedctypes import (
    CODES,
    NUMBERS,
    OBJECTS,
    Index,
    Int,
    OwnInt,
    Point,
    Refuses,
    Shorts,
    each_way,
    filled,
    is_native,
    same,
    set_item,
)

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


# --- ints that the slices before had (recent_ints.h) -------------------------------------------

PLACES = 4096  # of the table


def each_slice_is_right(code, numbers):
    """Again and again, until the table has them, with those before in their places."""
    a = fastmp.Array(code, len(numbers))
    for _ in range(4):
        a[:] = numbers
        assert a[:] == numbers
        a[:] = numbers[::-1]
        assert a[::-1] == numbers


@pytest.mark.parametrize("code", "bBhHiIlLqQ")
def test_ints_that_come_again(code):
    bits = 8 * ctypes.sizeof(fastmp.sharedctypes.typecode_to_type[code])
    low, high = (0, 2**bits - 1) if code.isupper() else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    edges = {-6, -5, -1, 0, 256, 257, 1024, 1025, low, low + 1, high - 1, high, high // 2 + 1}
    around = {n + i * PLACES for n in edges for i in range(-3, 4)}
    numbers = [n for n in sorted(around | edges) if low <= n <= high]
    each_slice_is_right(code, (numbers * 100)[:1000])


def test_numbers_whose_bits_are_the_same():
    for code in "qQqQ":
        each_slice_is_right(code, [(-n if code == "q" else 2**64 - n) for n in range(1000, 2000)])


def test_numbers_whose_place_is_the_same():
    for first in (5000, 5000 + PLACES, 5000 + PLACES**2, 5000 + PLACES**2 + PLACES, 5000):
        each_slice_is_right("q", list(range(first, first + 1000)))


@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="there is no table without a GIL"
)
def test_what_stays_is_learnt_and_what_changes_is_not():
    numbers = list(range(3_000_000, 3_001_000))
    a = fastmp.Array("i", numbers)
    for _ in range(6):
        known = a[:]
    assert all(x is y for x, y in zip(known, a[:], strict=True))
    for first in range(4_000_000, 4_000_000 + 50 * PLACES, PLACES):
        a[:] = range(first, first + 1000)  # at the places of those
        assert a[0] == first and a[:] == list(range(first, first + 1000))
    a[:] = numbers
    assert sum(x is y for x, y in zip(known, a[:], strict=True)) > 900
    short = fastmp.Array("i", range(5_000_000, 5_000_063))
    assert short[:][0] is not short[:][0]


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
