"""Queue, SimpleQueue and Pipe: many small messages, there and back, and a few large ones."""

import itertools
import zlib

from .measure import expect, row, timed

try:
    import numpy
except ImportError:
    numpy = None

LARGE = 64 << 20
QUICK_LARGE = 4 << 20
BATCH = 1000


#
# Throughput: this process produces, a child consumes
#


def _consume(queue, conn):
    """Take as many integers as the first message says; tell how many were the next in order."""
    while (n := queue.get()) is not None:
        right = 0
        for expected in range(n):
            right += queue.get() == expected
        conn.send(right)


def _consume_many(queue, conn):
    while (n := queue.get()) is not None:
        right = 0
        while right < n:
            for number in queue.get_many(min(BATCH, n - right)):
                if number != right:
                    conn.send(-1)
                right += 1
        conn.send(right)


def _produce(queue, conn, n):
    queue.put(n)
    for number in range(n):
        queue.put(number)
    return conn.recv()


def _produce_many(queue, conn, n):
    queue.put(n)
    numbers = iter(range(n))
    while batch := list(itertools.islice(numbers, BATCH)):
        queue.put_many(batch)
    return conn.recv()


def _throughput(kind, produce=_produce, consume=_consume, produce_many=None, consume_many=None):
    """A row; the `many` functions are what fastmp does instead, having more than the stdlib."""

    def opened(side):
        context = side.context()
        many = side.is_fastmp and produce_many is not None
        queue = getattr(context, kind)()
        conn, far = context.Pipe()
        target = consume_many if many else consume
        child = context.Process(target=target, args=(queue, far), daemon=True)
        child.start()

        def sample(n):
            seconds, right = timed(produce_many if many else produce, queue, conn, n)
            expect(right, n)
            return seconds

        yield sample
        queue.put(None)
        child.join()
        queue.close()

    return opened


row("queue", "Queue: ints, one producer to one consumer")(_throughput("Queue"))
row("queue", "Queue: put_many, get_many against put, get")(
    _throughput("Queue", produce_many=_produce_many, consume_many=_consume_many)
)
row("queue", "SimpleQueue: ints, one producer to one consumer")(_throughput("SimpleQueue"))


#
# Round trips: a child sends back what it gets
#


def _echo(get, put):
    while (thing := get()) is not None:
        put(thing)


def _echo_queue(inbox, outbox):
    _echo(inbox.get, outbox.put)


def _echo_conn(conn):
    _echo(conn.recv, conn.send)


def _there_and_back(put, get, n):
    number = -1
    for number in range(n):
        put(number)
        if get() != number:
            return -1
    return number + 1


def _round_trips(put, get):
    def sample(n):
        seconds, right = timed(_there_and_back, put, get, n)
        expect(right, n)
        return seconds

    return sample


def _queue_round_trip(kind):
    def opened(side):
        context = side.context()
        inbox, outbox = getattr(context, kind)(), getattr(context, kind)()
        child = context.Process(target=_echo_queue, args=(outbox, inbox), daemon=True)
        child.start()
        yield _round_trips(outbox.put, inbox.get)
        outbox.put(None)
        child.join()
        inbox.close()
        outbox.close()

    return opened


row("queue", "Queue: round trip")(_queue_round_trip("Queue"))
row("queue", "SimpleQueue: round trip")(_queue_round_trip("SimpleQueue"))


@row("pipe", "Pipe: round trip")
def pipe_round_trip(side):
    context = side.context()
    conn, far = context.Pipe()
    child = context.Process(target=_echo_conn, args=(far,), daemon=True)
    child.start()
    yield _round_trips(conn.send, conn.recv)
    conn.send(None)
    child.join()


@row("pipe", "Pipe: send_bytes, recv_bytes of 1 KiB in one process")
def pipe_bytes(side):
    reader, writer = side.context().Pipe(False)
    message = bytes(range(256)) * 4

    def loop(n):
        for _ in range(n):
            writer.send_bytes(message)
            got = reader.recv_bytes()
        return got

    def sample(n):
        seconds, got = timed(loop, n)
        expect(got, message)
        return seconds

    yield sample


#
# Large messages: a child says how long each was, and the checksum of a byte in each page
#


def _digest(thing):
    data = memoryview(thing).cast("B")
    return data.nbytes, zlib.crc32(bytes(data[::4093]))


def _swallow(get, conn):
    while (thing := get()) is not None:
        conn.send(_digest(thing))


def _swallow_queue(queue, conn):
    _swallow(queue.get, conn)


def _swallow_conn(bulk, conn):
    _swallow(bulk.recv, conn)


def _bytes(size):
    return bytes(range(251)) * (size // 251)


def _numpy_array(size):
    return numpy.arange(size // 8, dtype=numpy.int64)


def _hand_over(put, conn, thing, n):
    for _ in range(n):
        put(thing)
        digest = conn.recv()
    return digest


def _large(by_queue, make):
    def opened(side):
        context = side.context()
        thing = make(QUICK_LARGE if side.quick else LARGE)
        conn, far = context.Pipe()
        if by_queue:
            queue = context.Queue()
            put, target, args = queue.put, _swallow_queue, (queue, far)
        else:
            far_bulk, bulk = context.Pipe(False)
            put, target, args = bulk.send, _swallow_conn, (far_bulk, far)
        child = context.Process(target=target, args=args, daemon=True)
        child.start()
        wanted = _digest(thing)

        def sample(n):
            seconds, digest = timed(_hand_over, put, conn, thing, n)
            expect(digest, wanted)
            return seconds

        yield sample
        put(None)
        child.join()

    return opened


for _kind, _make in (("bytes", _bytes), ("numpy array", _numpy_array)):
    if _make is _numpy_array and numpy is None:
        continue
    for _name in ("Queue", "Pipe"):
        row("large", f"{_name}: 64 MiB {_kind} (4 MiB if quick)", count=1)(
            _large(_name == "Queue", _make)
        )
