"""Pool, and Manager."""

import os

from ..rows import expect, row, timed

WORKERS = min(4, len(os.sched_getaffinity(0)))


def negative(number):
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


def negatives(n):
    return [-number for number in range(n)]


def _map(pool, n):
    return pool.map(negative, range(n))


def _map_one_by_one(pool, n):
    return pool.map(negative, range(n), chunksize=1)


def _imap_unordered(pool, n):
    return set(pool.imap_unordered(negative, range(n)))


def _apply(pool, n):
    return [pool.apply(negative, (number,)) for number in range(n)]


def _apply_async(pool, n):
    results = [pool.apply_async(negative, (number,)) for number in range(n)]
    return [result.get() for result in results]


row("pool", "Pool.map: 1,000,000 trivial calls", count=1_000_000, quick_count=2_000)(
    _with_pool(_map, negatives)
)
row("pool", "Pool.map: chunksize=1", count=5_000, quick_count=100)(
    _with_pool(_map_one_by_one, negatives)
)
row("pool", "Pool.imap_unordered: 30,000 tasks", count=30_000, quick_count=100)(
    _with_pool(_imap_unordered, lambda n: set(negatives(n)))
)
row("pool", "Pool.apply")(_with_pool(_apply, negatives))
row("pool", "Pool.apply_async, then get", count=5_000, quick_count=100)(
    _with_pool(_apply_async, negatives)
)


def lives(live):
    """Samples of pools from beginning to end; live() makes one and returns what it has mapped."""

    def sample(n):
        seconds, answers = timed(lambda: [live() for _ in range(n)])
        expect(answers, [negatives(100)] * n)
        return seconds

    return sample


@row("pool", "Pool: create, map 100, terminate", count=5, quick_count=1)
def pool_life(side):
    context = side.context()

    def live():
        with context.Pool(WORKERS) as pool:
            return pool.map(negative, range(100))

    yield lives(live)


def _set_items(proxy, n):
    for number in range(n):
        proxy[number % 100] = number


@row("manager", "Manager: dict set")
def manager_dict_set(side):
    with side.context().Manager() as manager:
        proxy = manager.dict()

        def sample(n):
            seconds, _ = timed(_set_items, proxy, n)
            expect(proxy[(n - 1) % 100], n - 1)
            return seconds

        yield sample
