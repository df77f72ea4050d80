"""Workloads that the peers' authors have published, in the shape that they gave them.

* faster-fifo's comparison (its tests/comparison.py): messages of five ints through a bounded queue,
  so many producers, so many consumers, all processes' start and end included. The author gives his
  queue room for 100,000 bytes and multiprocessing's for 100,000 items; here all have room for
  100,000 messages, and what is counted is messages.
* pyzmq's perf.py: `lat`, a round trip of 1 KiB, and `thr`, the same messages one way.
* joblib's bench_auto_batching.py: 5,000 tasks of about half a millisecond, 300 whose time rises and
  falls; an argument of 20 MB that all share, and results of 100 KB.
* ray's issue 21343: a pool is made, and maps a little numpy over range(1000).
"""

import math
import random
import time
from functools import partial

from ..rows import Unable, checked, expect, row, timed
from .children import connected_child

#
# faster-fifo's comparison
#

SHAPES = (  # producers, consumers, messages of each producer
    (1, 1, 200_000),
    (1, 10, 200_000),
    (10, 1, 100_000),
    (3, 20, 100_000),
    (20, 3, 50_000),
    (20, 20, 50_000),
)
ROOM = 100_000
AT_A_TIME = 100


def message(number):
    return (number,) * 5


def send_messages(queue, full, n):
    number = 0
    while number < n:
        try:
            queue.put(message(number), timeout=0.01)
            number += 1
        except full:
            pass


def receive_messages(queue, empty, many, all_sent, conn):
    """Until the queue is empty and nobody sends any more; tell how many came, and their sum."""
    received = total = 0
    while True:
        try:
            if many:
                got = queue.get_many(timeout=0.01, **many)
            else:
                got = [queue.get(timeout=0.01)]
        except empty:
            if all_sent.value:
                break
        else:
            received += len(got)
            total += sum(first for first, *_ in got)
    conn.send((received, total))


def compare(context, make, errors, many, shape, quick):
    """The comparison as a way: `make()` gives the queue, `many` get_many's further arguments."""
    producers, consumers, each = (min(2, shape[0]), min(2, shape[1]), 500) if quick else shape
    full, empty = errors

    def run(n):
        queue, all_sent = make(), context.RawValue("b", 0)
        conns = [context.Pipe() for _ in range(consumers)]
        sending = [
            context.Process(target=send_messages, args=(queue, full, n)) for _ in range(producers)
        ]
        receiving = [
            context.Process(target=receive_messages, args=(queue, empty, many, all_sent, far))
            for _, far in conns
        ]
        for process in sending + receiving:
            process.start()
        for process in sending:
            process.join()
        all_sent.value = 1
        answers = [conn.recv() for conn, _ in conns]
        for process in receiving:
            process.join()
        queue.close()
        return answers

    def sample(n):
        seconds, answers = timed(run, each)
        expect(sum(answer[0] for answer in answers), producers * each)
        expect(sum(answer[1] for answer in answers), producers * (each * (each - 1) // 2))
        return seconds * n / (producers * each)

    return sample


def _comparison(shape, many):
    def opened(side):
        import queue

        context = side.context()
        arguments = None
        if many and side.is_fastmp:
            arguments = {"max_items": AT_A_TIME}
        yield compare(
            context,
            lambda: context.Queue(ROOM),
            (queue.Full, queue.Empty),
            arguments,
            shape,
            side.quick,
        )

    return opened


def comparison_name(shape, many):
    producers, consumers, _ = shape
    text = f"faster-fifo's comparison: {producers}P{consumers}C"
    return f"{text}, get_many" if many else text


for _many in (False, True):
    for _shape in SHAPES:
        row("published", comparison_name(_shape, _many), count=1, rounds=2, seconds=300)(
            _comparison(_shape, _many)
        )

#
# pyzmq's lat and thr
#

SIZE = 1024
LATENCY, THROUGHPUT = "pyzmq's perf.py: lat, 1 KiB", "pyzmq's perf.py: thr, 1 KiB"


def _echo_bytes(conn):
    while data := conn.recv_bytes():
        conn.send_bytes(data)


def latency(send, receive, n):
    data = b" " * SIZE
    for _ in range(n):
        send(data)
        data = receive()
        if len(data) != SIZE:
            return 0
    return n


def latencies(send, receive):
    """perf.py's lat as a sample."""
    return checked(partial(latency, send, receive), expect)


@row("published", LATENCY)
def pyzmq_latency(side):
    """A round trip; perf.py prints half of it."""
    with connected_child(side.context(), _echo_bytes) as conn:
        yield latencies(conn.send_bytes, conn.recv_bytes)
        conn.send_bytes(b"")


def _sink(conn):
    while count := int(conn.recv_bytes()):
        total = 0
        for _ in range(count):
            total += len(conn.recv_bytes())
        conn.send_bytes(b"%d" % total)


def throughput(send, receive, n):
    data = b" " * SIZE
    send(b"%d" % n)
    for _ in range(n):
        send(data)
    return int(receive())


def throughputs(send, receive):
    """perf.py's thr as a sample."""
    return checked(partial(throughput, send, receive), lambda got, n: expect(got, n * SIZE))


@row("published", THROUGHPUT)
def pyzmq_throughput(side):
    with connected_child(side.context(), _sink) as conn:
        yield throughputs(conn.send_bytes, conn.recv_bytes)
        conn.send_bytes(b"0")


#
# joblib's bench_auto_batching
#

JOBS = 2
INPUT, OUTPUT = 20_000_000, 100_000
BATCHING = {
    "joblib's bench_auto_batching: high variance": "high",
    "joblib's bench_auto_batching: low variance": "low",
    "joblib's bench_auto_batching: cyclic": "cyclic",
}


def sleep_noop(duration, _=None):
    import numpy

    time.sleep(duration)
    return numpy.ones(OUTPUT, dtype=numpy.byte)


def keep(data):
    sleep_noop.data = data


def durations(kind, quick):
    """How long each task sleeps: as the author's, from the same distributions."""
    if kind == "cyclic":
        steps = 20 if quick else 300
        angles = [1 + (4 * math.pi - 1) * step / (steps - 1) for step in range(steps)]
        return [0.1 * math.cos(angle) ** 8 * (0.1 if quick else 1) for angle in angles]
    chance = random.Random(1)
    times = [max(0.0, chance.gauss(1e-6, 1e-3)) for _ in range(30 if quick else 5000)]
    return times if kind == "high" else [sum(times) / len(times)] * len(times)


def batching_input(quick):
    import numpy

    return numpy.ones(INPUT // 100 if quick else INPUT, dtype=numpy.byte)


def batches(run, tasks):
    """The whole of it as a sample: run() returns the results of so many tasks."""

    def check(results, n):
        expect(len(results), tasks)
        expect({int(result.nbytes) for result in results}, {OUTPUT})

    return checked(lambda n: run(), check)


def _batching(kind):
    def opened(side):
        """What a Pool's user writes: joblib maps the large argument from a file by itself, so here
        the workers are given it once; default chunks, since joblib too batches as it likes."""
        times = durations(kind, side.quick)
        data = batching_input(side.quick)

        def run():
            with side.context().Pool(JOBS, keep, (data,)) as pool:
                return pool.map(sleep_noop, times)

        yield batches(run, len(times))

    return opened


for _name, _kind in BATCHING.items():
    row("published", _name, count=1, rounds=2, seconds=400)(_batching(_kind))

#
# ray's issue 21343
#

TRIVIAL = "ray's issue 21343: a pool and 1,000 trivial tasks"


def logarithms(index):
    import numpy

    return numpy.log2(index + 1) + numpy.log10(index + 1)


def check_logarithms(answers):
    expect(len(answers), 1000)
    expect(round(float(answers[999]), 6), round(math.log2(1000) + 3, 6))


def trivial_samples(run):
    """The whole of it as a sample: run() makes a pool and returns its answers."""
    return checked(lambda n: run(), lambda answers, n: check_logarithms(answers))


@row("published", TRIVIAL, count=1)
def trivial_tasks(side):
    try:
        import numpy  # noqa: F401 (before the time is taken, as in the issue)
    except ImportError:
        raise Unable("needs numpy") from None

    def run():
        with side.context().Pool() as pool:
            return list(pool.map(logarithms, range(1000)))

    yield trivial_samples(run)
