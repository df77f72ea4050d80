"""A full machine: what there is no memory, room or descriptor for is an exception that says so.

Never SIGBUS, never a hang, and everything goes on afterwards. The calls that can fail are made to
fail one by one; limits, control groups and small file systems show that it holds for real ones.
"""

import contextlib
import ctypes
import errno
import gc
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastmp
from tests.conftest import START_METHODS
from tests.support import census, failing_calls, machine, programs
from tests.support.machine import address_space, in_a_limited_child

MIB = 1 << 20
SUPPORT = Path(__file__).parent / "support"

no_sanitizer = pytest.mark.no_sanitizer("ASan's own allocator aborts under RLIMIT_AS")

#
# Every call that can fail, one after the other
#


@pytest.fixture(scope="session")
def failing(tmp_path_factory):
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    library = tmp_path_factory.mktemp("failing") / "failing.so"
    source = SUPPORT / "failing.c"
    command = [*compiler.split(), "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"]
    subprocess.run(command, check=True)
    return library


# What has to have failed in the course of each; a shim that lets nothing fail shows nothing.
EXPECTED = {
    "Queue": {"eventfd", "memfd_create", "fallocate", "fcntl", "mmap"},
    "Pipe": {"socketpair", "calloc", "memfd_create", "fallocate", "mmap"},
    "2000 locks": {"memfd_create", "fallocate", "calloc", "mmap"},
    "put bytes": {"fallocate", "mmap"},
    "get a buffer": {"malloc"},
    "send bytes": {"fallocate"},
    "apply, large result": {"malloc"},
    "map": {"calloc"},
}


@pytest.mark.no_sanitizer("the shim and ASan both stand in for malloc")
@pytest.mark.parametrize("part", range(3))
def test_each_call_that_can_fail(failing, part):
    names = list(failing_calls.OPERATIONS)[part::3]
    done = programs.run(
        ["-m", "tests.support.failing_calls", *names], programs.environment(LD_PRELOAD=str(failing))
    )
    found = {
        name: (calls, faults) for name, calls, faults in map(json.loads, done.out.splitlines())
    }
    assert done.code == 0 and [*found] == names, done.err
    assert {name: faults for name, (_, faults) in found.items() if faults} == {}
    for name, calls in EXPECTED.items():
        if name in found:
            assert calls <= {*found[name][0]}


#
# A control group's limit: the kernel does not fail a call there but kills
#


def fill(made, make, error=MemoryError):
    with pytest.raises(error, match=r"out of memory|No space|too large"):
        while len(made) < 5000:
            made.append(make())
    assert 0 < len(made) < 5000


def one_queue():
    queue = fastmp.Queue()
    message = b"x" * MIB
    put = []
    fill(put, lambda: queue.put(message))
    assert queue.qsize() == len(put)
    for _ in put:
        assert queue.get() == message
    queue.put("it goes on")
    assert queue.get() == "it goes on"


def many_queues():
    queues = []

    def make():
        queue = fastmp.Queue()
        queue.put(b"x" * MIB)
        return queue

    fill(queues, make)
    assert all(len(queue.get()) == MIB for queue in queues)
    queues.clear()
    assert len(make().get()) == MIB


def many_arrays():
    arrays = []
    fill(arrays, lambda: fastmp.RawArray("b", 60_000))
    for array in arrays:
        ctypes.memset(array, 1, 60_000)  # touching what was given kills nobody
    arrays.clear()
    assert fastmp.RawArray("b", 60_000)[59_999] == 0


@pytest.mark.no_sanitizer("ASan's shadow of the memory counts in the group too")
@pytest.mark.parametrize("job", [one_queue, many_queues, many_arrays])
def test_in_a_control_group(job):
    with machine.memory_group(100 * MIB) as enter:

        def main():
            enter()
            job()

        machine.in_a_child(main)


def allocate(n):
    return len(bytearray(b"x") * n)


def killed_by(group):
    """How many processes the kernel has killed in a control group for want of memory."""
    name = "memory.events" if os.path.exists(f"{group}/memory.events") else "memory.oom_control"
    with open(f"{group}/{name}") as file:
        return int(dict(line.split() for line in file)["oom_kill"])


@pytest.mark.no_sanitizer("ASan's shadow of the memory counts in the group too")
@pytest.mark.needs_tick
def test_a_worker_that_the_kernel_kills_for_want_of_memory():
    """Not what shared memory needs, which is looked at first, but what a task takes for itself."""
    with machine.memory_group(200 * MIB) as enter:

        def main():
            enter()
            with fastmp.get_context("fork").Pool(2) as pool:
                pids = [p.pid for p in pool._pool]
                with pytest.raises(fastmp.WorkerLostError, match=r"SIGKILL.*allocate\(\)") as e:
                    pool.apply(allocate, (1024 * MIB,))
                assert e.value.exitcode == -9 and e.value.pid in pids
                assert pool.map(allocate, range(8), chunksize=1) == list(range(8))
            pool.join()
            assert killed_by(enter.group) == 1

        machine.in_a_child(main)


#
# RLIMIT_AS: in the parent, in the workers
#


def length(value):
    return len(value)


def keep_within(room):
    gc.collect()  # what it unmaps later would be room beyond that
    limit = address_space() + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


@no_sanitizer
@pytest.mark.parametrize("room", [8 * MIB, 80 * MIB, 160 * MIB])
def test_a_task_for_which_a_worker_has_no_memory(room):
    """It fails, once, and by MemoryError: it is not handed from one dying worker to the next."""
    fork = fastmp.get_context("fork")
    with fork.Pool(2, keep_within, (room,)) as pool:
        pool.map(length, ["ab"] * 4)
        workers = [p.pid for p in pool._pool]
        with pytest.raises(MemoryError):
            pool.apply(length, (b"x" * (100 * MIB),))
        assert pool.apply_async(length, ("abc",)).get(20) == 3
        assert [p.pid for p in pool._pool] == workers
    pool.join()


# The ring of a result of so much fits into a little more, the result then does not. For a smaller
# one there may be room in what malloc has freed or gives back meanwhile: up to 64 MiB of a heap.
LARGE = 120 * MIB


@no_sanitizer
def test_a_result_for_which_there_is_no_memory():
    """Its task fails by MemoryError; those that come after it are not kept back."""
    fork = fastmp.get_context("fork")

    def job():
        with fork.Pool(1) as pool:
            assert pool.apply(length, ("ab",)) == 2
            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            keep_within(LARGE + 20 * MIB)
            seen = []
            large = pool.apply_async(bytes, (LARGE,), error_callback=seen.append)
            small = pool.map_async(length, ["ab", "c"])
            assert small.get(20) == [2, 1]
            with pytest.raises(MemoryError):
                large.get(20)
            assert [type(e) for e in seen] == [MemoryError]
            with pytest.raises(MemoryError):
                pool.map(bytes, [10, LARGE], chunksize=1)
            with pytest.raises(MemoryError):
                list(pool.imap(bytes, [10, LARGE]))
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
            assert len(pool.apply(bytes, (LARGE,))) == LARGE
        pool.join()

    machine.in_a_child(job)


@no_sanitizer
def test_a_message_for_which_there_is_no_memory_waits():
    queue, (here, there) = fastmp.Queue(), fastmp.Pipe()
    message = b"x" * (90 * MIB)

    def job():
        queue.put(message)
        p = fastmp.get_context("fork").Process(target=here.send_bytes, args=(message,))
        p.start()
        assert there.poll(20)
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        keep_within(20 * MIB)
        for receive in (queue.get, there.recv_bytes, lambda: queue.get_many(3)):
            with pytest.raises(MemoryError):
                receive()
        queue.put(message)  # which takes no room of this process's
        with pytest.raises(MemoryError, match="out of memory"):
            fastmp.RawArray("b", 90 * MIB)
        assert queue.qsize() == 2
        queue.put("next")
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        assert queue.get() == message and queue.get() == message and queue.get() == "next"
        assert there.recv_bytes() == message
        p.join()

    machine.in_a_child(job)


def test_what_cannot_be_pickled_for_want_of_memory_is_not_lost_in_silence(capfd):
    class Large:
        def __reduce__(self):
            raise MemoryError("as if")

    queue = fastmp.Queue()
    with pytest.raises(MemoryError, match="as if"):
        queue.put(Large())
    with pytest.raises(MemoryError, match="as if"):
        queue.put_many([1, Large()])
    assert queue.get_many(9) == [1]
    assert capfd.readouterr().err == ""


#
# RLIMIT_FSIZE: a memfd is a file too
#


def test_limit_on_file_sizes():
    fork = fastmp.get_context("fork")

    def job():
        too_large = pytest.raises(OSError, match="File too large")
        with too_large:
            fastmp.RawArray("b", 5 * MIB)
        assert fastmp.Array("b", MIB)[-1] == 0
        here, there = fastmp.Pipe()
        with too_large:
            here.send(b"x" * (5 * MIB))
        here.send(b"y" * (MIB // 2))
        assert len(there.recv()) == MIB // 2
        queue = fastmp.SimpleQueue()
        with too_large:
            queue.put(b"x" * (5 * MIB))
        queue.put(1)
        assert queue.get() == 1
        with fork.Pool(1) as pool:
            with too_large:
                pool.apply(length, (b"x" * (5 * MIB),))
            with too_large:
                pool.apply(bytes, (5 * MIB,))
            assert pool.map(bytes, [2]) == [b"\0\0"]
        pool.join()

    in_a_limited_child(resource.RLIMIT_FSIZE, 4 * MIB, job)


#
# RLIMIT_NOFILE: each number of free descriptors
#


def end(pool):
    pool.terminate()
    pool.join()


def connection_through_a_queue(ctx):
    queue, (here, there) = ctx.Queue(), ctx.Pipe()
    queue.put(1)
    queue._reader.fileno()
    assert queue.get() == 1 and not fastmp.connection.wait([here, there, queue._reader], 0)


MAKERS = {
    "Lock": lambda ctx: [ctx.Lock() for _ in range(1200)],
    "Value": lambda ctx: ctx.Value("i", 1),
    "Array": lambda ctx: ctx.Array("d", 10_000),
    "Queue": lambda ctx: ctx.Queue(),
    "Pipe": lambda ctx: ctx.Pipe(),
    "one-way Pipe": lambda ctx: ctx.Pipe(False),
    "Pool": lambda ctx: end(ctx.Pool(2)),
    "wait": connection_through_a_queue,
}


def descriptors(up_to=200):
    """How many are open; counted without opening one."""
    count = 0
    for fd in range(up_to):
        with contextlib.suppress(OSError):
            os.fstat(fd)
            count += 1
    return count


@pytest.mark.parametrize("name", MAKERS)
def test_each_number_of_free_descriptors(name):
    make, fork = MAKERS[name], fastmp.get_context("fork")

    def job():
        sys.unraisablehook = sys.__unraisablehook__  # pytest's wants to import something
        make(fork)
        fillers, results = [], []
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.dup(0))
        before = descriptors()
        while True:
            try:
                make(fork)
            except OSError as e:
                assert e.errno == errno.EMFILE, e
                results.append("refused")
            else:
                results.append("made")
            assert descriptors() == before - len(results) + 1
            if results[-1] == "made":
                break
            os.close(fillers.pop())
        assert name in ("Lock", "Value") or len(results) > 1
        assert len(results) < 20

    in_a_limited_child(resource.RLIMIT_NOFILE, descriptors() + 40, job)


def test_what_a_descriptor_buys():
    """The figures in docs/crash-safety.md."""
    fork = fastmp.get_context("fork")
    costs = {
        "Queue": (fork.Queue, 2),
        "SimpleQueue": (fork.SimpleQueue, 2),
        "Pipe": (fork.Pipe, 4),
        "Event": (fork.Event, 0),
    }
    fork.Lock()
    for name, (make, cost) in costs.items():
        before = descriptors()
        made = make()
        assert descriptors() - before == cost, name
        del made
        assert descriptors() == before, name


def test_thousands_of_locks_and_queues_at_once():
    fork = fastmp.get_context("fork")

    def job():
        before = descriptors(3000)
        locks = [fork.Lock() for _ in range(10_000)]
        assert descriptors(3000) - before <= 12
        queues = [fork.Queue() for _ in range(1000)]
        assert descriptors(3000) - before <= 2012

        def child():
            for lock, queue in zip(locks[::10], queues, strict=True):
                lock.acquire()
                queue.put(queue.get() + 1)

        for i, queue in enumerate(queues):
            queue.put(i)
        p = fork.Process(target=child)
        p.start()
        p.join()
        assert [queue.get() for queue in queues] == [*range(1, 1001)]
        assert [lock.locked() for lock in locks] == [i % 10 == 0 for i in range(10_000)]

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < 2100:
        pytest.skip("the hard limit on descriptors is too low for 1,000 queues")
    in_a_limited_child(resource.RLIMIT_NOFILE, 2100, job)


#
# No process, no thread
#


def failing_after(calls, function, *error):
    left = [calls]

    def call(*args, **kwargs):
        if left[0] <= 0:
            raise error[0](*error[1:])
        left[0] -= 1
        return function(*args, **kwargs)

    return call


NO_PROCESS = BlockingIOError, errno.EAGAIN, "Resource temporarily unavailable"
NO_THREAD = RuntimeError, "can't start new thread"


@pytest.mark.parametrize("started", range(3))
def test_no_process_can_be_started(monkeypatch, started):
    fork, fork_now = fastmp.get_context("fork"), os.fork
    monkeypatch.setattr(os, "fork", failing_after(started, fork_now, *NO_PROCESS))
    before = descriptors()
    with pytest.raises(BlockingIOError):
        fork.Pool(3)
    assert fastmp.active_children() == [] and descriptors() == before
    monkeypatch.setattr(os, "fork", fork_now)
    with fork.Pool(3) as pool:
        assert pool.map(length, ["ab"] * 9) == [2] * 9
    pool.join()


def test_no_process_can_be_started_for_a_while(monkeypatch):
    """A pool that has lost a worker goes on with those it has, and has all of them again later."""
    fork, fork_now = fastmp.get_context("fork"), os.fork
    with fork.Pool(2) as pool:
        pool.map(length, ["ab"] * 9)
        monkeypatch.setattr(os, "fork", failing_after(0, fork_now, *NO_PROCESS))
        with pytest.raises(fastmp.WorkerLostError):
            pool.apply(os._exit, (3,))
        assert pool.map(length, ["ab"] * 9) == [2] * 9
        monkeypatch.setattr(os, "fork", fork_now)
        assert machine.within(20, lambda: pool.map(length, [""]) and len(pool._pool) == 2)
    pool.join()


def test_no_thread_can_be_started(monkeypatch):
    """Who needs one is told, and the pool goes on: later calls have theirs, and join() returns."""
    import threading

    fork, start = fastmp.get_context("fork"), threading.Thread.start
    with fork.Pool(2) as pool:
        calls = [
            lambda: pool.apply_async(length, ("ab",), callback=print),
            lambda: pool.map_async(length, ["ab"] * 3, callback=print),
            lambda: pool.imap(length, iter(["ab"] * 3)),
        ]
        for call in calls:
            assert machine.within(20, lambda: pool._crew._server is None)
            monkeypatch.setattr(threading.Thread, "start", failing_after(0, start, *NO_THREAD))
            with pytest.raises(RuntimeError, match="can't start new thread"):
                call()
            assert pool.map(length, ["ab"]) == [2]
            monkeypatch.setattr(threading.Thread, "start", start)
            seen = []
            pool.apply_async(length, ("abc",), callback=seen.append).get(20)
            assert seen == [3]
            assert list(pool.imap(length, iter(["ab"]))) == [2]
        pool.close()
        pool.join()


#
# Another /dev/shm, a full disk
#


@pytest.mark.no_sanitizer("ASan reports the SIGBUS that shows what the place is like")
@pytest.mark.parametrize(
    ("what", "method"),
    [(what, method) for what in ("1 MB", "absent") for method in START_METHODS]
    + [("read-only", "fork"), ("full disk", "forkserver")],
)
def test_where_the_stdlib_finds_no_room(tmp_path, what, method):
    done = machine.run_where(what, [SUPPORT / "everything.py", method], tmp_path)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1] == "all of it works"
    # What shows that the place is as it should be.
    stdlib = {"1 MB": "SIGBUS", "read-only": "OSError", "absent": "OSError", "full disk": "OSError"}
    assert done.out.splitlines()[0] == stdlib[what]


@pytest.mark.watchdog(180)
@pytest.mark.no_sanitizer("takes minutes with it; 50 pools are made in test_pool_faults.py")
@pytest.mark.once("1,000 pools are made on one Python; 50 on each, in test_pool_faults.py")
@pytest.mark.filterwarnings("ignore:unclosed running multiprocessing pool:ResourceWarning")
def test_a_thousand_pools_one_after_another():
    fork = fastmp.get_context("fork")
    end(fork.Pool(1))
    before = census.take()
    for i in range(1000):
        pool = fork.Pool(1 + i % 2)
        assert pool.apply(length, ("ab",)) == 2
        if i % 3 == 0:
            pool.close()
        elif i % 3 == 1:
            pool.map_async(length, ["abc"] * 50)
            pool.terminate()
        else:
            continue  # the garbage collector ends it
        pool.join()
    del pool
    assert census.settle(before) == []
