"""faster-fifo: a bounded queue of pickles in shared memory."""

import importlib
import queue

from ..rows import expect, timed, way
from ..suites import channels, large, published
from .children import FORK, child

ROOM = 16 << 20


def _fifo(room=ROOM):
    return importlib.import_module("faster_fifo").Queue(max_size_bytes=room)


def _fifo_consume_many(fifo, conn):
    while (n := fifo.get(timeout=3600)) is not None:
        right = 0
        while right < n:
            for number in fifo.get_many(max_messages_to_get=min(channels.BATCH, n - right)):
                if number != right:
                    conn.send(-1)
                right += 1
        conn.send(right)


def _fifo_consume(fifo, conn):
    while (n := fifo.get(timeout=3600)) is not None:
        right = 0
        for expected in range(n):
            right += fifo.get() == expected
        conn.send(right)


def _fifo_throughput(produce, consume):
    def opened(side):
        fifo = _fifo()
        conn, far = FORK.Pipe()
        with child(consume, fifo, far):

            def sample(n):
                seconds, right = timed(produce, fifo, conn, n)
                expect(right, n)
                return seconds

            yield sample
            fifo.put(None)

    return opened


way(channels.INTS, "faster-fifo")(_fifo_throughput(channels.produce, _fifo_consume))
way(channels.MANY, "faster-fifo")(_fifo_throughput(channels.produce_many, _fifo_consume_many))


def _fifo_echo(inbox, outbox):
    channels.echo(lambda: inbox.get(timeout=3600), outbox.put)


@way(channels.TRIPS[0], "faster-fifo")
def fifo_round_trip(side):
    there, back = _fifo(), _fifo()
    with child(_fifo_echo, there, back):
        yield channels.round_trips(there.put, back.get)
        there.put(None)


def _fifo_swallow(fifo, conn):
    large.swallow(lambda: fifo.get(timeout=3600), conn)


def _fifo_large(make):
    def opened(side):
        fifo = _fifo(3 * large.size_for(side))
        thing = make(large.size_for(side))
        conn, far = FORK.Pipe()
        with child(_fifo_swallow, fifo, far):
            yield large.handing_over(fifo.put, conn, thing)
            fifo.put(None)

    return opened


for _name in large.NAMES:
    if _name.startswith("Queue"):
        _make = large.numpy_array if "numpy" in _name else large.some_bytes
        way(_name, "faster-fifo")(_fifo_large(_make))

BYTES_OF_A_MESSAGE = 48  # of the comparison's, pickled, and the length before it

for _many in (False, True):
    for _shape in published.SHAPES:

        def _fifo_comparison(side, shape=_shape, many=_many):
            yield published.compare(
                FORK,
                lambda: _fifo(published.ROOM * BYTES_OF_A_MESSAGE),
                (queue.Full, queue.Empty),
                {"max_messages_to_get": published.AT_A_TIME} if many else None,
                shape,
                side.quick,
            )

        way(published.comparison_name(_shape, _many), "faster-fifo")(_fifo_comparison)
