"""Lets each call fail that _core makes for memory, descriptors or room, one after the other.

A program, run under LD_PRELOAD of failing.c: ``python -m tests.support.failing_calls [name ...]``.
For each operation, and each n, the operation's n-th call fails: the operation must raise OSError or
MemoryError or do without, what it worked on must be as good as before, and no descriptor or mapping
may be left.  Prints one JSON line for each operation: its name, which calls failed, and what was
wrong.
"""

import ctypes
import gc
import json
import os
import pickle
import sys

import fastmp
from fastmp import connection

ctx = fastmp.get_context("fork")
BIG = b"x" * 700_000  # less than a pipe holds
FEW, MANY = [1000, "a", 2.5], list(range(-100, 0))


class Point:
    """Has to be pickled."""

    def __eq__(self, other):
        return type(other) is Point

    __hash__ = None


class Buffers:
    """Pickled with its buffer beside it, as numpy's arrays are."""

    def __init__(self, data):
        self.data = data

    def __reduce_ex__(self, protocol):
        return Buffers, (pickle.PickleBuffer(self.data),)

    def __eq__(self, other):
        return bytes(self.data) == bytes(other.data)

    __hash__ = None


class Shim:
    """What failing.c exports."""

    def __init__(self):
        library = ctypes.CDLL(None)
        library.failing_watch.argtypes = [ctypes.c_size_t] * 2
        library.failing_arm.argtypes = [ctypes.c_long]
        library.failing_disarm.restype = ctypes.c_char_p
        with open("/proc/self/maps") as file:
            core = [line.split()[0].split("-") for line in file if "/_core." in line]
        library.failing_watch(int(core[0][0], 16), int(core[-1][1], 16))
        self.arm = library.failing_arm
        self.disarm = library.failing_disarm


def drained(queue):
    found = []
    while not queue.empty():
        found.append(queue.get())
    return found


#
# Each operation is (prepare, operate, check).  operate() gets what prepare() made; check() gets
# it too, and whether it went well.
#


def making(make):
    def check(made, good):
        assert len(made) == good
        made.append(make())

    return list, lambda made: made.append(make()), check


def putting(value):
    def prepare():
        queue = ctx.Queue()
        queue.put("before")
        return queue

    def check(queue, good):
        queue.put("after")
        assert drained(queue) == ["before", *([value] if good else []), "after"]

    return prepare, lambda queue: queue.put(value), check


def putting_many(values):
    def check(queue, good):
        queue.put("after")
        found = drained(queue)
        assert found.pop() == "after"
        assert found == values[: len(found)] and (len(found) == len(values)) >= good

    return ctx.Queue, lambda queue: queue.put_many(values), check


def getting(value, get):
    """What there was no memory to take is still there; what could not be decoded is gone."""

    def prepare():
        queue = ctx.Queue()
        queue.put_many([value, "next"])
        return queue

    def check(queue, good):
        left = drained(queue)
        queue.put("after")
        assert left[-1:] in ([], ["next"]) if good else left[-1] == "next"
        assert queue.get() == "after"

    return prepare, get, check


def sending(value):
    def check(ends, good):
        here, there = ends
        here.send("after")
        assert [there.recv() for _ in range(1 + good)] == [value] * good + ["after"]

    return ctx.Pipe, lambda ends: ends[0].send(value), check


def receiving(value):
    def prepare():
        here, there = ctx.Pipe()
        here.send(value)
        here.send("next")
        return here, there

    def check(ends, good):
        found = []
        while ends[1].poll():
            found.append(ends[1].recv())
        assert found[-1] == "next"
        ends[0].send("after")
        assert ends[1].recv() == "after"

    return prepare, lambda ends: ends[1].recv(), check


def waiting():
    def prepare():
        return ctx.Pipe(), ctx.Queue()

    def operate(made):
        (here, there), queue = made
        queue.put(1)
        assert len(connection.wait([here, there, queue._reader], 5)) == 1

    def check(made, good):
        (here, there), queue = made
        assert drained(queue) == [1]
        here.send(2)
        assert connection.wait([here, there], 5) == [there] and there.recv() == 2

    return prepare, operate, check


def pool():
    """One for all operations: it outlives each failure."""
    if not hasattr(pool, "pool"):
        pool.pool = ctx.Pool(1)
    assert pool.pool.apply(len, ("ab",)) == 2
    return pool.pool


def working(operate):
    def check(pool, good):
        assert pool.apply_async(len, ("abc",)).get(20) == 3
        assert pool.map_async(abs, MANY).get(20) == [-x for x in MANY]

    return pool, operate, check


def call_back(pool):
    seen = []
    try:
        pool.apply_async(len, ("abc",), callback=seen.append).get(20)
    except MemoryError:
        return
    assert seen == [3]


def make_pool():
    pool = ctx.Pool(2)
    pool.terminate()
    pool.join()


def value(kind, *args):
    return making(lambda: getattr(ctx, kind)(*args))


OPERATIONS = {
    **{name: value(name) for name in ("Lock", "RLock", "Condition", "Event", "SimpleQueue")},
    "Queue": value("Queue"),
    "JoinableQueue": value("JoinableQueue", 3),
    "Pipe": value("Pipe"),
    "one-way Pipe": value("Pipe", False),
    "Value": value("Value", "i", 4),
    "2000 locks": making(lambda: [ctx.Lock() for _ in range(2000)]),
    "large Array": value("Array", "i", 100_000),
    "put a list": putting(FEW),
    "put bytes": putting(BIG),
    "put a pickle": putting(Point()),
    "put a buffer": putting(Buffers(bytearray(BIG))),
    "put_many": putting_many([1, "a", Point(), BIG, [1, 2]]),
    "get bytes": getting(BIG, lambda queue: queue.get()),
    "get a pickle": getting(Point(), lambda queue: queue.get()),
    "get a buffer": getting(Buffers(bytearray(BIG)), lambda queue: queue.get()),
    "get_many": getting(FEW, lambda queue: queue.get_many(10)),
    "send a pickle": sending(Point()),
    "send bytes": sending(BIG),
    "send a buffer": sending(Buffers(bytearray(BIG))),
    "recv a pickle": receiving(Point()),
    "recv bytes": receiving(BIG),
    "recv a buffer": receiving(Buffers(bytearray(BIG))),
    "wait": waiting(),
    "Pool": (lambda: None, lambda _: make_pool(), lambda _, good: make_pool()),
    "apply": working(lambda pool: pool.apply(len, (FEW,))),
    "apply, large": working(lambda pool: pool.apply(len, (BIG,))),
    "apply, large result": working(lambda pool: pool.apply(bytes, (700_000,))),
    "callback": working(call_back),
    "map": working(lambda pool: pool.map(abs, MANY)),
    "imap": working(lambda pool: list(pool.imap(abs, MANY))),
    "imap_unordered": working(lambda pool: sorted(pool.imap_unordered(abs, iter(MANY)))),
}


def held():
    gc.collect()
    with open("/proc/self/maps") as file:
        mappings = sum("/memfd:fastmp" in line for line in file)
    return len(os.listdir("/proc/self/fd")), mappings


def attempt(shim, operation, number):
    """The name of the call that failed, or None if there were not so many; and a list of faults."""
    prepare, operate, check = operation
    before = held()
    object_, faults, good = prepare(), [], True
    shim.arm(number)
    try:
        operate(object_)
    except (OSError, MemoryError):
        good = False
    except Exception as e:
        good = False
        faults.append(f"raised {e!r}")
    failed = shim.disarm()
    if not good and failed is None:
        faults.append("raised though no call failed")
    try:
        check(object_, good)
    except Exception as e:
        faults.append(f"afterwards {type(e).__name__}: {e}")
    del object_
    after = held()
    if after != before:
        faults.append(f"descriptors and mappings were {before}, are {after}")
    return failed and failed.decode(), faults


def main(names):
    shim = Shim()
    for name in names or OPERATIONS:
        for _ in range(2):  # what is made once is made
            attempt(shim, OPERATIONS[name], sys.maxsize)
        calls, faults, number = [], [], 0
        failed = ""
        while failed is not None:
            failed, found = attempt(shim, OPERATIONS[name], number)
            calls += [failed] if failed else []
            faults += [f"call {number} ({failed}): {fault}" for fault in found]
            number += 1
        print(json.dumps([name, calls, faults]), flush=True)
    if hasattr(pool, "pool"):
        pool.pool.terminate()
        pool.pool.join()


if __name__ == "__main__":
    main(sys.argv[1:])
