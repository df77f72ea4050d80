"""Queue, SimpleQueue and Pipe: many small messages, and messages there and back."""

import itertools
import os
import time

from ..rows import expect, row, timed
from .children import connected_child

BATCH = 1000
INTS = "Queue: ints, one producer to one consumer"
MANY = "Queue: put_many, get_many against put, get"
TRIPS = ("Queue: round trip", "SimpleQueue: round trip", "Pipe: round trip")


#
# Throughput: this process produces, a child consumes
#


def consume(queue, conn):
    """Take as many integers as the first message says; tell how many were the next in order."""
    while (n := queue.get()) is not None:
        right = 0
        for expected in range(n):
            right += queue.get() == expected
        conn.send(right)


def consume_many(queue, conn):
    while (n := queue.get()) is not None:
        right = 0
        while right < n:
            for number in queue.get_many(min(BATCH, n - right)):
                if number != right:
                    conn.send(-1)
                right += 1
        conn.send(right)


def produce(queue, conn, n):
    queue.put(n)
    for number in range(n):
        queue.put(number)
    return conn.recv()


def produce_many(queue, conn, n):
    queue.put(n)
    numbers = iter(range(n))
    while batch := list(itertools.islice(numbers, BATCH)):
        queue.put_many(batch)
    return conn.recv()


def _throughput(kind, produce=produce, consume=consume, produce_many=None, consume_many=None):
    """A row; the `many` functions are what fastmp does instead, having more than the stdlib."""

    def opened(side):
        context = side.context()
        many = side.is_fastmp and produce_many is not None
        queue = getattr(context, kind)()
        with connected_child(context, consume_many if many else consume, queue) as conn:

            def sample(n):
                seconds, right = timed(produce_many if many else produce, queue, conn, n)
                expect(right, n)
                return seconds

            yield sample
            queue.put(None)
        queue.close()

    return opened


row("queue", INTS)(_throughput("Queue"))
row("queue", MANY)(_throughput("Queue", produce_many=produce_many, consume_many=consume_many))
row("queue", "SimpleQueue: ints, one producer to one consumer")(_throughput("SimpleQueue"))


#
# Round trips: a child sends back what it gets
#


def echo(get, put):
    while (thing := get()) is not None:
        put(thing)


def echo_queue(inbox, outbox):
    echo(inbox.get, outbox.put)


def echo_conn(conn):
    echo(conn.recv, conn.send)


def there_and_back(put, get, n):
    number = -1
    for number in range(n):
        put(number)
        if get() != number:
            return -1
    return number + 1


def round_trips(put, get):
    def sample(n):
        seconds, right = timed(there_and_back, put, get, n)
        expect(right, n)
        return seconds

    return sample


def _queue_round_trip(kind, one_cpu=False, measure=round_trips):
    def opened(side):
        if one_cpu:
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        context = side.context()
        inbox, outbox = getattr(context, kind)(), getattr(context, kind)()
        child = context.Process(target=echo_queue, args=(outbox, inbox), daemon=True)
        child.start()
        yield measure(outbox.put, inbox.get)
        outbox.put(None)
        child.join()
        inbox.close()
        outbox.close()

    return opened


def round_trips_after_a_pause(put, get):
    """Each after a millisecond in which the other has gone to sleep; only the trip is measured."""

    def sample(n):
        seconds = 0.0
        for _ in range(n):
            time.sleep(0.001)
            took, right = timed(there_and_back, put, get, 1)
            expect(right, 1)
            seconds += took
        return seconds

    return sample


row("queue", TRIPS[0], tells_sleeps=True)(_queue_round_trip("Queue"))
row("queue", "Queue: round trip, on one CPU", tells_sleeps=True)(
    _queue_round_trip("Queue", one_cpu=True)
)
row("queue", "Queue: round trip, the other asleep", count=100, quick_count=5)(
    _queue_round_trip("Queue", measure=round_trips_after_a_pause)
)
row("queue", TRIPS[1], tells_sleeps=True)(_queue_round_trip("SimpleQueue"))


@row("pipe", TRIPS[2], tells_sleeps=True)
def pipe_round_trip(side):
    with connected_child(side.context(), echo_conn) as conn:
        yield round_trips(conn.send, conn.recv)
        conn.send(None)


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
