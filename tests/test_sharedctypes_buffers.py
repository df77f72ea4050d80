"""The buffers of Value and Array, and the blocks of memory beneath."""

import ctypes
import gc
import multiprocessing
import multiprocessing.sharedctypes
import os
import weakref

import pytest

import fastmp
import fastmp.sharedctypes
from fastmp import _core
from tests.support.later import later
from tests.support.sharedctypes import (
    CODES,
    NUMBERS,
    Pair,
    Point,
    filled,
    same,
    set_item,
)

numpy = later("numpy")


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
