"""How cost grows: one row for each point of a curve. The largest are for a full run's patience."""

import mmap

from ..digests import digest, send_digest
from ..rows import Unable, expect, row, timed
from .channels import echo_conn
from .children import connected_child
from .processes import EXIT_CODE, start_and_join

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def _free_memory():
    with open("/proc/meminfo", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def _need(size):
    if _free_memory() < size:
        raise Unable(f"needs {size >> 20} MiB of free memory")


def size_name(size):
    for unit, scale in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size >= scale:
            return f"{size // scale} {unit}"
    return f"{size} B"


#
# Message size: bytes through a Pipe, there and back
#


QUICK = MIB  # the largest when it shall be quick


def _message(most):
    def opened(side):
        size = min(most, QUICK) if side.quick else most
        _need(8 * size)
        message = bytes(range(256)) * (size // 256 + 1)
        message = message[:size]
        with connected_child(side.context(), echo_conn) as conn:

            def loop(n):
                for _ in range(n):
                    conn.send(message)
                    got = conn.recv()
                return got

            def sample(n):
                loop(1)  # for the memory, which others' turns may have cost: see large.PAUSE
                seconds, got = timed(loop, n)
                expect(got == message, True)
                return seconds

            yield sample
            conn.send(None)

    return opened


for _size in (8, 256, 4 * KIB, 64 * KIB, MIB, 16 * MIB, 256 * MIB):
    row(
        "growth",
        f"Growth: Pipe round trip of {size_name(_size)}",
        count=1 if _size >= 16 * MIB else None,
        rounds=5,
        series="Pipe, a round trip of bytes",
        at=_size,
    )(_message(_size))


#
# Queue depth: so many are put before the first is taken, in one process
#


def _fill_and_drain(queue, n):
    for number in range(n):
        queue.put(number)
    total = 0
    for _ in range(n):
        total += queue.get()
    return total


def _depth(depth):
    def opened(side):
        def sample(n):
            queue = side.context().Queue()
            seconds, total = timed(_fill_and_drain, queue, n)
            expect(total, n * (n - 1) // 2)
            queue.close()
            return seconds

        yield sample

    return opened


for _depth_of in (10, 1_000, 100_000, 1_000_000, 10_000_000):
    row(
        "growth",
        f"Growth: Queue filled with {_depth_of:,} ints, then drained",
        count=_depth_of,
        quick_count=min(_depth_of, 1000),
        rounds=2 if _depth_of >= 1_000_000 else 5,
        seconds=400,
        series="Queue filled, then drained, each int",
        at=_depth_of,
    )(_depth(_depth_of))


#
# Processes: so many producers, one consumer
#


def _produce_when_told(queue, conn):
    while n := conn.recv():
        for number in range(n):
            queue.put(number)


def _processes(count):
    def opened(side):
        context = side.context()
        queue = context.Queue()
        conns = []
        for _ in range(count):
            conn, far = context.Pipe()
            args = (queue, far)
            context.Process(target=_produce_when_told, args=args, daemon=True).start()
            conns.append(conn)

        def loop(each):
            for conn in conns:
                conn.send(each)
            return sum(queue.get() for _ in range(each * count))

        def sample(n):
            each = max(1, n // count)
            seconds, total = timed(loop, each)
            expect(total, count * (each * (each - 1) // 2))
            return seconds * n / (each * count)

        yield sample
        for conn in conns:
            conn.send(0)

    return opened


for _count in (1, 2, 4, 8, 16, 32):
    row(
        "growth",
        f"Growth: Queue, {_count} producer{'s' if _count > 1 else ''}",
        count=32_000,
        quick_count=320,
        rounds=5,
        series="Queue, so many producers to one consumer, each int",
        at=_count,
    )(_processes(_count))


#
# Arguments: of a spawned process
#


def _arguments(most):
    def opened(side):
        size = min(most, QUICK) if side.quick else most
        _need(6 * size)
        context = side.context("spawn")
        data = bytes(size)
        wanted = digest(data)

        def run():
            conn, far = context.Pipe()
            process = context.Process(target=send_digest, args=(data, far))
            process.start()
            answer = conn.recv()
            process.join()
            return answer

        def sample(n):
            expect(n, 1)
            seconds, answer = timed(run)
            expect(answer, wanted)
            return seconds

        yield sample

    return opened


for _size in (1, 10_000, 1_000_000, 20_000_000, 200_000_000):
    row(
        "growth",
        f"Growth: spawn with arguments of {_size:,} B",
        count=1,
        rounds=5,
        series="Process started by spawn, with so many bytes as its argument",
        at=_size,
    )(_arguments(_size))


#
# The parent's size: fork copies its page tables
#


def parent_of(size):
    """Hold so much memory, touched, in small pages as a heap of Python objects would."""
    _need(size + GIB)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    for page in range(0, size, mmap.PAGESIZE):
        memory[page] = 1
    return memory


def _parent(size):
    def opened(side):
        context = side.context("fork")

        def sample(n):
            # Anew each time: where its pages happen to lie makes a difference of up to a third.
            with parent_of(QUICK if side.quick else size):
                seconds, codes = timed(start_and_join, context, n)
            expect(codes, {EXIT_CODE})
            return seconds

        yield sample

    return opened


PARENTS = (10 * MIB, 100 * MIB, GIB, 4 * GIB)


def parent_name(size):
    return f"Growth: fork from a parent of {size_name(size)}"


for _size in PARENTS:
    row(
        "growth",
        parent_name(_size),
        rounds=5,
        series="Process started by fork, from a parent of so many bytes",
        at=_size,
    )(_parent(_size))
