"""Pools with interfaces of their own: concurrent.futures, joblib, loky, mpire, pebble, ray.

Each is made before the time is taken and warmed up, as a Pool is; what is timed is what its
documents give for the work.
"""

import contextlib
import importlib
import os
from functools import partial

from ..rows import expect, timed, way
from ..suites import published
from ..suites.pools import WORKERS, lives, negative, negatives

MAP, ONE_BY_ONE = "Pool.map: 1,000,000 trivial calls", "Pool.map: chunksize=1"
UNORDERED, APPLY = "Pool.imap_unordered: 30,000 tasks", "Pool.apply"
ASYNC, LIFE = "Pool.apply_async, then get", "Pool: create, map 100, terminate"


def by(peer, row, pool, run, check=negatives):
    """Register `run(pool, n)`, whose answer must be check(n), over what `pool()` opens."""

    def opened(side):
        with pool() as opened_pool:

            def sample(n):
                seconds, answer = timed(run, opened_pool, n)
                expect(answer, check(n))
                return seconds

            yield sample

    way(row, peer)(opened)


def living(peer, live):
    """The row of a pool that is made, maps, and ends."""

    @way(LIFE, peer)
    def opened(side):
        yield lives(live)


def trivial(peer, run):
    """ray's issue: a pool is made, maps logarithms() over range(1000), and ends."""

    @way(published.TRIVIAL, peer)
    def opened(side):
        yield published.trivial_samples(run)


def _nothing():
    pass


def batching(peer, run, end=_nothing):
    """joblib's workload: run(times, data) gives the results; workers may stay until `end`."""
    for name, kind in published.BATCHING.items():

        def opened(side, kind=kind):
            times = published.durations(kind, side.quick)
            data = published.batching_input(side.quick)

            yield published.batches(partial(run, times, data), len(times))
            end()

        way(name, peer)(opened)


#
# Executors: submit, map, Future
#


def _executor(module, name, workers=WORKERS, **options):
    executor = getattr(importlib.import_module(module), name)
    if module == "concurrent.futures":
        options["mp_context"] = importlib.import_module("multiprocessing").get_context("fork")
    return executor(workers, **options)


def _submit_each(pool, n):
    return [pool.submit(negative, number).result() for number in range(n)]


def _submit_all(pool, n):
    futures = [pool.submit(negative, number) for number in range(n)]
    return [future.result() for future in futures]


def _completed(pool, n):
    as_completed = importlib.import_module("concurrent.futures").as_completed
    futures = [pool.submit(negative, number) for number in range(n)]
    return {future.result() for future in as_completed(futures)}


def _mapped(pool, n):
    return list(pool.map(negative, range(n), chunksize=max(1, n // (WORKERS * 4))))


def _mapped_one_by_one(pool, n):
    return list(pool.map(negative, range(n), chunksize=1))


for _peer, _module in (("concurrent.futures", "concurrent.futures"), ("loky", "loky")):

    def _open(module=_module, **options):
        return _executor(module, "ProcessPoolExecutor", **options)

    def _live(open=_open):
        with open() as pool:
            return list(pool.map(negative, range(100)))

    def _trivial(open=_open):
        with open(workers=None) as pool:
            return list(pool.map(published.logarithms, range(1000)))

    def _batching(times, data, open=_open):
        with open(workers=published.JOBS, initializer=published.keep, initargs=(data,)) as pool:
            return list(pool.map(published.sleep_noop, times))

    by(_peer, MAP, _open, _mapped)
    by(_peer, ONE_BY_ONE, _open, _mapped_one_by_one)
    by(_peer, UNORDERED, _open, _completed, lambda n: set(negatives(n)))
    by(_peer, APPLY, _open, _submit_each)
    by(_peer, ASYNC, _open, _submit_all)
    living(_peer, _live)
    trivial(_peer, _trivial)
    batching(_peer, _batching)


#
# joblib
#


def _end_jobs():
    """joblib keeps its workers for later; those of a row end with it."""
    importlib.import_module("joblib.externals.loky").get_reusable_executor().shutdown(wait=True)


@contextlib.contextmanager
def _joblib():
    with importlib.import_module("joblib").Parallel(n_jobs=WORKERS) as pool:
        yield pool
    _end_jobs()


def _parallel(pool, n, **options):
    delayed = importlib.import_module("joblib").delayed
    for name, value in options.items():
        setattr(pool, name, value)
    return pool(delayed(negative)(number) for number in range(n))


def _joblib_live():
    joblib = importlib.import_module("joblib")
    with joblib.Parallel(n_jobs=WORKERS) as pool:
        answer = pool(joblib.delayed(negative)(number) for number in range(100))
    _end_jobs()
    return answer


def _joblib_batching(times, data):
    joblib = importlib.import_module("joblib")
    task = joblib.delayed(published.sleep_noop)
    return joblib.Parallel(n_jobs=published.JOBS)(task(seconds, data) for seconds in times)


def _joblib_trivial():
    joblib = importlib.import_module("joblib")
    answers = joblib.Parallel(n_jobs=-1)(
        joblib.delayed(published.logarithms)(index) for index in range(1000)
    )
    _end_jobs()
    return answers


by("joblib", MAP, _joblib, _parallel)
by("joblib", ONE_BY_ONE, _joblib, lambda pool, n: _parallel(pool, n, batch_size=1))
living("joblib", _joblib_live)
trivial("joblib", _joblib_trivial)
batching("joblib", _joblib_batching, _end_jobs)


#
# mpire
#


@contextlib.contextmanager
def _mpire():
    mpire = importlib.import_module("mpire")
    with mpire.WorkerPool(n_jobs=WORKERS, start_method="fork", keep_alive=True) as pool:
        yield pool


def _mpire_live():
    mpire = importlib.import_module("mpire")
    with mpire.WorkerPool(n_jobs=WORKERS, start_method="fork") as pool:
        return pool.map(negative, range(100))


def _mpire_trivial():
    with importlib.import_module("mpire").WorkerPool(start_method="fork") as pool:
        return pool.map(published.logarithms, range(1000))


def _mpire_sleep(data, duration):
    return published.sleep_noop(duration, data)


def _mpire_batching(times, data):
    mpire = importlib.import_module("mpire")
    with mpire.WorkerPool(published.JOBS, start_method="fork", shared_objects=data) as pool:
        return pool.map(_mpire_sleep, times, concatenate_numpy_output=False)


by("mpire", MAP, _mpire, lambda pool, n: pool.map(negative, range(n)))
by("mpire", ONE_BY_ONE, _mpire, lambda pool, n: pool.map(negative, range(n), chunk_size=1))
by(
    "mpire",
    UNORDERED,
    _mpire,
    lambda pool, n: set(pool.imap_unordered(negative, range(n), chunk_size=1)),
    lambda n: set(negatives(n)),
)
by(
    "mpire",
    APPLY,
    _mpire,
    lambda pool, n: [pool.apply(negative, (number,)) for number in range(n)],
)
by(
    "mpire",
    ASYNC,
    _mpire,
    lambda pool, n: [
        result.get() for result in [pool.apply_async(negative, (i,)) for i in range(n)]
    ],
)
living("mpire", _mpire_live)
trivial("mpire", _mpire_trivial)
batching("mpire", _mpire_batching)


#
# pebble
#


def _pebble(workers=WORKERS, **options):
    context = importlib.import_module("multiprocessing").get_context("fork")
    return importlib.import_module("pebble").ProcessPool(workers, context=context, **options)


def _scheduled(pool, n):
    return [pool.schedule(negative, [number]) for number in range(n)]


def _pebble_live():
    with _pebble() as pool:
        return list(pool.map(negative, range(100)).result())


def _pebble_trivial():
    with _pebble(os.cpu_count()) as pool:
        return list(pool.map(published.logarithms, range(1000)).result())


def _pebble_batching(times, data):
    with _pebble(published.JOBS, initializer=published.keep, initargs=(data,)) as pool:
        return list(pool.map(published.sleep_noop, times).result())


by(
    "pebble",
    MAP,
    _pebble,
    lambda pool, n: list(
        pool.map(negative, range(n), chunksize=max(1, n // (WORKERS * 4))).result()
    ),
)
by(
    "pebble",
    ONE_BY_ONE,
    _pebble,
    lambda pool, n: list(pool.map(negative, range(n), chunksize=1).result()),
)
by(
    "pebble",
    APPLY,
    _pebble,
    lambda pool, n: [pool.schedule(negative, [number]).result() for number in range(n)],
)
by("pebble", ASYNC, _pebble, lambda pool, n: [f.result() for f in _scheduled(pool, n)])
living("pebble", _pebble_live)
trivial("pebble", _pebble_trivial)
batching("pebble", _pebble_batching)


#
# ray
#


@contextlib.contextmanager
def _ray():
    ray = importlib.import_module("ray")
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        yield ray
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _ray_task():
    with _ray() as ray:
        task = ray.remote(negative)
        ray.get([task.remote(number) for number in range(WORKERS * 10)])
        yield ray, task


@contextlib.contextmanager
def _ray_pool():
    with _ray():
        pool = importlib.import_module("ray.util.multiprocessing").Pool(WORKERS)
        pool.map(negative, range(10))
        yield pool
        pool.terminate()


def _ray_one_by_one(opened, n):
    ray, task = opened
    return ray.get([task.remote(number) for number in range(n)])


def _ray_apply(opened, n):
    ray, task = opened
    return [ray.get(task.remote(number)) for number in range(n)]


by("ray", MAP, _ray_pool, lambda pool, n: pool.map(negative, range(n)))
by("ray", ONE_BY_ONE, _ray_task, _ray_one_by_one)
by("ray", APPLY, _ray_task, _ray_apply)
by("ray", ASYNC, _ray_task, _ray_one_by_one)


@way(published.TRIVIAL, "ray")
def _ray_trivial(side):
    """As in the issue: ray is there already, and its Pool is made."""
    with _ray():
        pool_of = importlib.import_module("ray.util.multiprocessing").Pool

        def run():
            pool = pool_of()
            answers = list(pool.map(published.logarithms, range(1000)))
            pool.terminate()
            return answers

        yield published.trivial_samples(run)
