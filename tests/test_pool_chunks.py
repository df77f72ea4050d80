"""Pool: chunks of plain values, encoded item by item, are the stdlib's in all that shows."""

import math
import multiprocessing
import sys

import pytest

import fastmp
from tests.pool_tasks import (
    Whole,
    caller,
    fail_if_odd,
    forget,
    fresh_text,
    identity,
    is_the_last,
    items_of_the_loop,
    keep_some,
    lock_at_seven,
    mixed,
    next_one,
    shared_list,
    shared_text,
    square,
    take_another,
    whole,
)

EDGES = [
    sign * (1 << bits) + offset
    for bits in (0, 7, 8, 15, 16, 30, 31, 32, 60, 62, 63, 64, 70)
    for sign in (1, -1)
    for offset in (-1, 0, 1)
]


@pytest.fixture(scope="module")
def pool():
    with fastmp.get_context("fork").Pool(2) as pool:
        yield pool
    pool.join()


@pytest.fixture(scope="module")
def stdlib_pool():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        yield pool
    pool.join()


# Longer chunks are called by a loop in Python, in blocks of 256 (py_pool_call.c).
LONG = 600
loop_in_python = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="there C calls a function as fast"
)


def exactly(values):
    """What compares equal only when types and signs do too."""
    return [(type(value), repr(value)) for value in values]


class Numbers:
    """Has a length and an iterator, and is no sequence."""

    def __init__(self, values, length=None):
        self.values = values
        self.length = len(values) if length is None else length

    def __len__(self):
        return self.length

    def __iter__(self):
        return iter(self.values)


ITERABLES = {
    "edges": EDGES,
    "edges within 64 bits": [n for n in EDGES if -(1 << 63) <= n < 1 << 63],
    "floats": [0.0, -0.0, math.inf, -math.inf, math.nan, 1e-320, 2.5] * 5,
    "constants": [None, True, False] * 11,
    "texts": [f"{n} \N{SNOWMAN}" for n in range(40)],
    "few texts": ["a", b"", "", b"\0"],
    "a lone surrogate": ["\ud800", 1, 2],
    "plain, then not": [*range(30), (1, 2), [3], {4}, 5],
    "of a class": [*range(30), Whole(5), 6],
    "range": range(100),
    "range down": range(50, -50, -7),
    "range at the end": range((1 << 63) - 20, (1 << 63) - 1, 3),
    "range at the beginning": range(-(1 << 63) + 20, -(1 << 63), -3),
    "range across the end": range((1 << 63) - 5, (1 << 63) + 5),
    "range beyond": range(1 << 64, (1 << 64) + 20),
    "range of one": range(7, 1000, 1000),
    "no range": range(0),
    "longer than it says": Numbers(range(40), 7),
    "shorter than it says": Numbers(range(7), 40),
}


@pytest.mark.parametrize("chunksize", [None, 2, 16, 1000])
@pytest.mark.parametrize("name", ITERABLES)
def test_items_arrive_as_they_are(pool, name, chunksize):
    values = ITERABLES[name]
    assert exactly(pool.map(identity, values, chunksize)) == exactly(values)
    if chunksize is not None:
        assert exactly(pool.imap(identity, values, chunksize)) == exactly(values)


@pytest.mark.parametrize("name", [name for name in ITERABLES if "says" not in name])
def test_many_items_arrive_as_they_are(pool, name):
    values = ITERABLES[name]
    copies = -(-LONG // max(len(values), 1))
    many = [item for _ in range(copies) for item in values]
    assert exactly(pool.map(identity, many, 500)) == exactly(many)
    assert exactly(pool.map(identity, range(LONG), 500)) == exactly(range(LONG))


@pytest.mark.parametrize(
    "middle", [0, 256, 1 << 12, 1 << 15, 1 << 30, 1 << 31, 1 << 60, (1 << 63) - 1000]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_many_ints_that_nobody_keeps(pool, middle, sign):
    """The worker's loop writes the next value into an int that it alone has (py_pool_items.c)."""
    for step in 1, -1, 3:
        numbers = range(sign * middle - LONG * step // 2, sign * middle + LONG * step // 2, step)
        for items in numbers, list(numbers), list(numbers)[::2] * 2:
            expected = exactly(map(next_one, items))
            assert exactly(pool.map(next_one, items, LONG)) == expected


@pytest.mark.parametrize("first", [0, 4000, (1 << 30) - 300])
def test_ints_that_somebody_keeps_stay_as_they_are(first):
    numbers = range(first, first + LONG)
    with fastmp.get_context("fork").Pool(1) as pool:
        for items in numbers, list(numbers):
            assert all(pool.map(keep_some, items, LONG))
            pool.apply(forget)


@loop_in_python
def test_the_items_of_a_chunk_that_is_done():
    with fastmp.get_context("fork").Pool(1) as pool:
        for items in range(LONG), list(range(LONG)):
            first, *rest = pool.map(items_of_the_loop, items, LONG)
            assert first == []
            assert set(rest) == {None}
            first, *rest = pool.map(items_of_the_loop, items, LONG)
            assert first == [[]]
            pool.apply(forget)


@loop_in_python
def test_the_items_of_a_chunk_are_taken_from_under_the_loop(pool):
    for items in range(LONG), list(range(LONG)):
        with pytest.raises(RuntimeError, match="call_each"):
            pool.map(take_another, items, LONG)
    assert pool.map(square, range(LONG), LONG) == [n * n for n in range(LONG)]


@pytest.mark.parametrize("chunksize", [2, 8, 9, 50])
def test_results_that_are_plain_up_to_some_point(pool, chunksize):
    expected = exactly(map(mixed, range(40)))
    assert exactly(pool.map(mixed, range(40), chunksize)) == expected
    assert exactly(pool.map(mixed, list(range(40)), chunksize)) == expected
    assert pool.map(whole, range(20), chunksize) == list(range(20))
    assert {type(n) for n in pool.map(whole, range(20), chunksize)} == {Whole}


@pytest.mark.parametrize("plain", [0, 1, 255, 256, 257, 511, 512])
def test_many_results_that_are_plain_up_to_some_point(pool, plain):
    items = [*range(plain), Whole(3), *range(LONG - plain)]
    for argument in items, [*map(float, range(plain)), None, "x", {1}, *range(LONG)]:
        assert exactly(pool.map(identity, argument, 1000)) == exactly(argument)
    assert exactly(pool.map(mixed, range(LONG), 1000)) == exactly(map(mixed, range(LONG)))


@pytest.mark.parametrize("n", [20, LONG])
def test_what_is_one_object_in_a_chunk_stays_one(pool, stdlib_pool, n):
    for p in pool, stdlib_pool:
        for function in shared_list, shared_text:
            results = p.map(function, range(2 * n), n)
            assert len({id(x) for x in results[:n]}) == len({id(x) for x in results[n:]}) == 1
            assert results[0] is not results[n]
    assert pool.map(fresh_text, range(2 * n), n) == [f"text {i}" for i in range(2 * n)]


@pytest.mark.parametrize("n", [4, 40, LONG])
def test_an_argument_that_repeats_in_a_chunk_is_one_object(pool, stdlib_pool, n):
    text = "a text of some length"
    expected = [False] + [True] * (n - 1)
    for p in pool, stdlib_pool:
        assert p.map(is_the_last, [text] * n, n)[1:] == expected[1:]
        assert p.map(is_the_last, (text for _ in range(n)), n)[1:] == expected[1:]


@pytest.mark.parametrize("n", [40, LONG])
def test_a_chunk_fails_at_its_first_error(pool, stdlib_pool, n):
    for p in pool, stdlib_pool:
        with pytest.raises(ValueError, match=rf"no {n - 1}$"):
            p.map(fail_if_odd, [*range(0, 2 * n, 2), n - 1, n + 1], 3 * n)
        results = p.imap(fail_if_odd, [0, 2, 4, 5, 6, 8], 2)
        assert [next(results), next(results)] == [0, 2]
        with pytest.raises(ValueError, match=r"no 5$"):
            next(results)


@pytest.mark.parametrize("n", [3, LONG])
def test_no_loop_of_ours_in_the_traceback(pool, n):
    for items in range(1, n), [*range(1, n), Whole(1)]:
        with pytest.raises(ValueError, match="no 1") as e:
            pool.map(fail_if_odd, items, n)
        (where,) = [line for line in str(e.value.__cause__).splitlines() if " line " in line]
        assert where.endswith("in fail_if_odd")
    with pytest.raises(TypeError) as e:
        pool.map(len, range(n), n)
    assert " line " not in str(e.value.__cause__)


@loop_in_python
def test_many_items_are_called_from_python(pool):
    assert pool.map(caller, range(3), 3) == ["work"] * 3
    assert pool.map(caller, range(LONG), LONG) == ["call_each"] * LONG


@pytest.mark.parametrize("n", [20, LONG])
def test_a_result_that_cannot_be_pickled_fails_its_chunk(pool, n):
    with pytest.raises(fastmp.pool.MaybeEncodingError, match="lock"):
        pool.map(lock_at_seven, range(2 * n), n)
    assert pool.map(lock_at_seven, range(8, 2 * n), n) == list(range(8, 2 * n))


@pytest.mark.parametrize("good", [[], [1], [1, 2], [1, 2, "x" * 30, ()], [()]])
def test_an_iterable_that_fails_takes_its_chunk_along(pool, good):
    def numbers():
        yield from [10, 11, 12, 13]
        yield from good
        raise OverflowError("enough")

    results = pool.imap(identity, numbers(), 4)
    assert [next(results) for _ in range(4)] == [10, 11, 12, 13]
    if len(good) == 4:
        assert [next(results) for _ in range(4)] == good
    with pytest.raises(OverflowError, match="enough"):
        next(results)


def test_a_large_map(pool):
    n = 300_000
    assert pool.map(square, range(n)) == [x * x for x in range(n)]
    result = pool.map_async(square, [*range(n)])
    assert result.get(50) == [x * x for x in range(n)] and result._number_left == 0


def count_tasks(pool, iterable, chunksize=None):
    """What a function returns again and again is one object of each task."""
    return len(set(map(id, pool.map(shared_list, iterable, chunksize))))


def test_a_long_range_is_cut_into_more_tasks(pool):
    per_task = 10_000
    numbers = range(2 * 4 * 8 * per_task)
    assert count_tasks(pool, numbers) == 2 * 4 * 8
    assert count_tasks(pool, numbers[: len(numbers) // 2]) == math.ceil(len(numbers) / 2 / 8192)
    assert count_tasks(pool, numbers[:60_000]) == 2 * 4
    assert count_tasks(pool, numbers, len(numbers) // 8) == 2 * 4
    assert count_tasks(pool, [*numbers]) == 2 * 4
    with fastmp.get_context("fork").Pool(2, maxtasksperchild=100) as renewed:
        assert count_tasks(renewed, numbers) == 2 * 4
