"""Pool, and Manager."""

import contextlib
import multiprocessing.connection
import multiprocessing.managers
import os

from .measure import expect, row, timed

WORKERS = min(4, len(os.sched_getaffinity(0)))


def _negative(number):
    return -number


def _with_pool(run, check):
    """A row over a pool that stays; `run(pool, n)` gives the answer that `check(n)` gives."""

    def opened(side):
        with side.context().Pool(WORKERS) as pool:

            def sample(n):
                seconds, answer = timed(run, pool, n)
                expect(answer, check(n))
                return seconds

            yield sample
            pool.close()
            pool.join()

    return opened


def _negatives(n):
    return [-number for number in range(n)]


def _map(pool, n):
    return pool.map(_negative, range(n))


def _map_one_by_one(pool, n):
    return pool.map(_negative, range(n), chunksize=1)


def _imap_unordered(pool, n):
    return set(pool.imap_unordered(_negative, range(n)))


def _apply(pool, n):
    return [pool.apply(_negative, (number,)) for number in range(n)]


def _apply_async(pool, n):
    results = [pool.apply_async(_negative, (number,)) for number in range(n)]
    return [result.get() for result in results]


row("pool", "Pool.map: 100,000 trivial calls", count=100_000, quick_count=2_000)(
    _with_pool(_map, _negatives)
)
row("pool", "Pool.map: chunksize=1", count=5_000, quick_count=100)(
    _with_pool(_map_one_by_one, _negatives)
)
row("pool", "Pool.imap_unordered", count=5_000, quick_count=100)(
    _with_pool(_imap_unordered, lambda n: set(_negatives(n)))
)
row("pool", "Pool.apply")(_with_pool(_apply, _negatives))
row("pool", "Pool.apply_async, then get", count=5_000, quick_count=100)(
    _with_pool(_apply_async, _negatives)
)


@row("pool", "Pool: create, map 100, terminate", count=1)
def pool_life(side):
    context = side.context()

    def live():
        with context.Pool(WORKERS) as pool:
            return pool.map(_negative, range(100))

    def sample(n):
        expect(n, 1)
        seconds, answer = timed(live)
        expect(answer, _negatives(100))
        return seconds

    yield sample


def _set_items(proxy, n):
    for number in range(n):
        proxy[number % 100] = number


@contextlib.contextmanager
def _connections_of(side):
    """The managers made here, and their proxies, use the connections of the side's package.

    `managers` is one module for both, and importing fastmp has given it fastmp's.
    """
    table = multiprocessing.managers.listener_client
    fastmps = table["pickle"]
    if not side.is_fastmp:
        table["pickle"] = multiprocessing.connection.Listener, multiprocessing.connection.Client
    try:
        yield
    finally:
        table["pickle"] = fastmps


@row("manager", "Manager: dict set")
def manager_dict_set(side):
    with contextlib.ExitStack() as stack:
        with _connections_of(side):
            manager = stack.enter_context(side.context().Manager())
            proxy = manager.dict()

        def sample(n):
            seconds, _ = timed(_set_items, proxy, n)
            expect(proxy[(n - 1) % 100], n - 1)
            return seconds

        yield sample
