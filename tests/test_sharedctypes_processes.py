"""Value and Array between processes: every start method, the lock, the memory and its end."""

import ctypes
import gc
import multiprocessing
import os
import resource
import signal
import threading
import time
import warnings

import pytest

import fastmp
from fastmp import _core

WORKERS, ROUNDS = 4, 2000


class Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_double))


def join(process, code=0):
    process.join()
    assert process.exitcode == code
    process.close()


def run(ctx, target, *args, code=0):
    process = ctx.Process(target=target, args=args)
    process.start()
    join(process, code)


# --- passing them on -------------------------------------------------------------------------


def change(objects):
    v, a, s, u, p, rv, ra, points, empty, big = objects
    v.value += 1.5
    a[1:3] = [7, 8]
    s.value = b"child"
    u[0] = "é"
    p.x, p.y = 4, 5.5
    rv.value += 1
    ra[-1] = 2**40
    points[1].y = 2.5
    assert len(empty) == 0
    assert big[0] == 1
    big[-1] = 9
    # Natively here too, also what was rebuilt from a pickle.
    native = [isinstance(obj, _core.Synced) for obj in objects]
    assert native == [True, True, True, True, False, False, False, False, True, True]


def test_all_kinds_in_a_child(ctx):
    objects = (
        ctx.Value("d", 1), ctx.Array("i", 4), ctx.Array("c", 10), ctx.Array("u", "abc"),
        ctx.Value(Point, 1, 2), ctx.RawValue("q", 2**33), ctx.RawArray("q", 3),
        ctx.RawArray(Point, 2), ctx.Array("i", 0), ctx.Array("b", 3_000_000),
    )  # fmt: skip
    objects[-1][0] = 1
    run(ctx, change, objects)
    v, a, s, u, p, rv, ra, points, _, big = objects
    assert (v.value, a[:], s.value, u[:]) == (2.5, [0, 7, 8, 0], b"child", "ébc")
    assert (p.x, p.y, rv.value, ra[:]) == (4, 5.5, 2**33 + 1, [0, 0, 2**40])
    assert (points[1].y, big[-1]) == (2.5, 9)


def many(values, arrays):
    for i, (v, a) in enumerate(zip(values, arrays, strict=True)):
        assert (v.value, a[i % 3]) == (i, i)
        v.value, a[1] = -i, -i


def test_many_of_them(ctx):
    values = [ctx.Value("i", i) for i in range(300)]
    arrays = [ctx.Array("q", [i] * 3) for i in range(300)]
    run(ctx, many, values, arrays)
    assert [v.value for v in values] == [-i for i in range(300)]
    assert [a[1] for a in arrays] == [-i for i in range(300)]


def hand_on(method, v, raw):
    v.value += 1
    run(fastmp.get_context(method), hand_on_once_more, v, raw)


def hand_on_once_more(v, raw):
    v.value += 1
    raw[1] += 1


def test_from_child_to_grandchild(ctx, start_method):
    v, raw = ctx.Value("i"), ctx.RawArray("i", 2)
    run(ctx, hand_on, start_method, v, raw)
    assert (v.value, raw[:]) == (2, [0, 1])


def set_both(v, a):
    with v.get_lock():
        v.value += 1
    a[1] = v.value


@pytest.mark.parametrize("makes, runs", [(fastmp, multiprocessing), (multiprocessing, fastmp)])
def test_mixed_with_the_stdlib(start_method, makes, runs):
    made_by = makes.get_context(start_method)
    v, a = made_by.Value("i", 3), made_by.Array("d", 3)
    run(runs.get_context(start_method), set_both, v, a)
    assert (v.value, a[:]) == (4, [0, 4, 0])


def in_pool(i):
    with shared.get_lock():
        shared.value += i


def adopt(v):
    global shared
    shared = v


def test_as_initargs_of_a_pool(ctx):
    v = ctx.Value("i")
    with ctx.Pool(2, adopt, (v,)) as pool:
        pool.map(in_pool, range(20))
        pool.close()
        pool.join()
    assert v.value == 190


def test_in_a_closure_under_fork():
    ctx = fastmp.get_context("fork")
    a = ctx.Array("i", 2)

    def target():
        a[0] = 5

    run(ctx, target)
    assert a[:] == [5, 0]


@pytest.mark.parametrize("make", ["Value", "Array"])
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_of_a_fork_context_to_a_spawned_process(make, method):
    obj = getattr(fastmp.get_context("fork"), make)("i", 1)
    process = fastmp.get_context(method).Process(target=print, args=(obj,))
    with pytest.raises(RuntimeError, match="A SemLock created in a fork context is being shared"):
        process.start()


def add_to(raw, lock):
    with lock:
        raw.value += 1


def test_a_raw_value_of_a_fork_context_goes_everywhere(ctx):
    raw = fastmp.get_context("fork").RawValue("i", 1)
    run(ctx, add_to, raw, ctx.Lock())
    assert raw.value == 2


# --- the lock --------------------------------------------------------------------------------


def increment(v, a):
    for _ in range(ROUNDS):
        with v.get_lock():
            v.value += 1
        with a:
            a[1] += 1
            a[0] -= 1


def test_increments_under_the_lock_are_all_counted(ctx):
    v, a = ctx.Value("i"), ctx.Array("i", 2)
    processes = [ctx.Process(target=increment, args=(v, a)) for _ in range(WORKERS)]
    for process in processes:
        process.start()
    for process in processes:
        join(process)
    assert v.value == WORKERS * ROUNDS
    assert a[:] == [-WORKERS * ROUNDS, WORKERS * ROUNDS]


def test_threads_count_too():
    v, a = fastmp.Value("q"), fastmp.Array("q", 2)
    threads = [threading.Thread(target=increment, args=(v, a)) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert v.value == WORKERS * ROUNDS
    assert a[:] == [-WORKERS * ROUNDS, WORKERS * ROUNDS]


def hold(v, a, held, go_on):
    with v.get_lock(), a.get_lock():
        v.value, a[0] = 1, 1
        held.set()
        go_on.wait()
        v.value, a[0] = 2, 2


@pytest.mark.parametrize("who", ["thread", "process"])
def test_each_access_waits_for_the_holder(who):
    ctx = fastmp.get_context("fork")
    v, a = ctx.Value("i"), ctx.Array("i", 3)
    s = ctx.Array("c", 5, lock=v.get_lock())
    long = ctx.Array("c", 1000, lock=v.get_lock())
    held, go_on = ctx.Event(), ctx.Event()
    make = threading.Thread if who == "thread" else ctx.Process
    holder = make(target=hold, args=(v, a, held, go_on))
    holder.start()
    assert held.wait(30)
    accesses = [
        lambda: v.value, lambda: setattr(v, "value", 3), lambda: setattr(v, "value", True),
        lambda: a[0], lambda: a[:], lambda: list(a), lambda: a.__setitem__(1, 1),
        lambda: a.__setitem__(1, 1.5), lambda: a.__setitem__(slice(1, 3), [1, 1]),
        lambda: s.value, lambda: s.raw, lambda: setattr(s, "value", b"x"), lambda: s[1],
        lambda: s[:], lambda: long.value, lambda: setattr(long, "value", b"x" * 500),
    ]  # fmt: skip
    done, errors = [], []

    def attempt(access):
        try:
            access()
        except TypeError as e:  # a[1] = 1.5
            errors.append(e)
        done.append(access)

    threads = [threading.Thread(target=attempt, args=(access,)) for access in accesses]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    assert done == []
    assert v.get_obj().value == 1  # the raw object takes no lock
    go_on.set()
    for thread in threads:
        thread.join()
    holder.join()
    assert len(done) == len(accesses)
    assert len(errors) == 1
    if who == "process":
        holder.close()


def test_a_signal_interrupts_the_wait():
    v = fastmp.Value("i")
    holder = threading.Thread(target=hold_until, args=(v.get_lock(), release := threading.Event()))
    holder.start()
    while not v.get_lock().locked():
        time.sleep(0.001)

    def handler(*_):
        raise InterruptedError("by the test")

    old = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(InterruptedError, match="by the test"):
            v.value = 3
    finally:
        signal.signal(signal.SIGALRM, old)
        release.set()
        holder.join()
    assert v.value == 0


def hold_until(lock, release):
    with lock:
        release.wait()


def die_holding(v):
    with v.get_lock():
        v.value = 7
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.needs_tick
def test_a_killed_holder_is_recovered_from(ctx):
    v = ctx.Value("i")
    run(ctx, die_holding, v, code=-signal.SIGKILL)
    with pytest.warns(RuntimeWarning, match="died holding a lock"):
        assert v.value == 7
    v.value += 1
    assert v.value == 8


def write_for_ever(v, a, started):
    started.set()
    while True:
        v.value = 1 << 62 | 1
        a[:] = [5] * 8
        v.value = 0
        a[:] = [6] * 8


@pytest.mark.needs_tick
def test_killed_writers_leave_whole_values(ctx):
    v = ctx.Value("q")
    a, started = ctx.Array("q", 8), ctx.Event()
    for _ in range(3):
        started.clear()
        writer = ctx.Process(target=write_for_ever, args=(v, a, started))
        writer.start()
        assert started.wait(30)
        time.sleep(0.02)
        writer.kill()
        join(writer, -signal.SIGKILL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # it may have died holding the lock
            assert v.value in (0, 1 << 62 | 1)
            assert set(a[:]) <= {0, 5, 6}


# --- memory ----------------------------------------------------------------------------------


def shared_memory():
    """(bytes of shared memory this process has touched, descriptors, mappings of fastmp's)"""
    with open("/proc/self/status") as file:
        rss = next(int(line.split()[1]) for line in file if line.startswith("RssShmem"))
    with open("/proc/self/maps") as file:
        mapped = sum("memfd:fastmp" in line for line in file)
    return rss * 1024, len(os.listdir("/proc/self/fd")), mapped


@pytest.mark.parametrize("make", ["Array", "RawArray"])
def test_large_arrays_give_their_memory_back(make):
    size = 100_000_000
    fastmp.Value("i")  # the open slab is there now
    gc.collect()
    before = shared_memory()
    for i in range(6):
        a = getattr(fastmp, make)("b", size)
        a[i] = a[-1] = 1
        del a
    after = shared_memory()
    assert after[0] - before[0] < size // 10
    assert after[1:] == before[1:]


def test_small_ones_give_their_memory_back():
    gc.collect()
    before = shared_memory()
    kept = [(fastmp.Value("i"), fastmp.Array("d", 100)) for _ in range(2000)]
    during = shared_memory()
    assert 2000 * 800 < during[0] - before[0] < 10_000_000
    assert during[1] - before[1] < 60
    del kept
    after = shared_memory()
    assert after[0] - before[0] <= 3 * 65536
    assert after[1] - before[1] <= 2


def test_many_made_and_dropped_use_one_slab():
    fastmp.Value("i")
    before = shared_memory()
    for _ in range(5000):
        fastmp.Value("i", 1)
    assert shared_memory()[1:] == before[1:]


@pytest.mark.parametrize("size", [2**45, 2**60])
def test_more_than_there_is(size):
    for make in (fastmp.Array, fastmp.RawArray):
        with pytest.raises((MemoryError, OSError)):
            make("b", size)


def exceed(limit, amount, expected):
    soft, hard = resource.getrlimit(limit)
    resource.setrlimit(limit, (amount, hard))
    try:
        fastmp.Array("b", 10**9)
    except expected as e:
        text = str(e)
    else:
        text = ""
    resource.setrlimit(limit, (soft, hard))
    assert "shared memory" in text, text
    assert fastmp.Array("b", 10)[:] == [0] * 10


def test_a_limit_on_the_size_of_files():
    run(fastmp.get_context("fork"), exceed, resource.RLIMIT_FSIZE, 10**6, OSError)


def test_a_limit_on_addresses():
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    run(fastmp.get_context("fork"), exceed, resource.RLIMIT_AS, used + 10**8, MemoryError)


def test_too_many_open_files():
    def use_up():
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 3, hard))
        kept = []
        with pytest.raises(OSError, match="shared memory"):
            for _ in range(10):
                kept.append(fastmp.RawArray("b", 100_000))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert len(kept) >= 2

    run(fastmp.get_context("fork"), use_up)
