"""Channels with interfaces of their own: faster-fifo, pyzmq over ipc, iceoryx2, torch's tensors.

Their far ends are plain forked processes of the standard library's, and so is the pipe on which
those answer where the row's child does.
"""

import contextlib
import ctypes
import importlib
import multiprocessing
import queue
import tempfile
import uuid

from ..rows import expect, timed, unable, way
from ..suites import channels, large, published

FORK = multiprocessing.get_context("fork")
INTS = "Queue: ints, one producer to one consumer"
MANY = "Queue: put_many, get_many against put, get"
QUEUE_TRIP = "Queue: round trip"
TRIPS = (QUEUE_TRIP, "SimpleQueue: round trip", "Pipe: round trip")


@contextlib.contextmanager
def child(target, *args):
    process = FORK.Process(target=target, args=args, daemon=True)
    process.start()
    yield
    process.join()


#
# faster-fifo
#

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


way(INTS, "faster-fifo")(_fifo_throughput(channels.produce, _fifo_consume))
way(MANY, "faster-fifo")(_fifo_throughput(channels.produce_many, _fifo_consume_many))


def _fifo_echo(inbox, outbox):
    channels.echo(lambda: inbox.get(timeout=3600), outbox.put)


@way(QUEUE_TRIP, "faster-fifo")
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


#
# pyzmq, over ipc
#


@contextlib.contextmanager
def _address():
    with tempfile.TemporaryDirectory(prefix="benchmarks-zmq-") as folder:
        yield f"ipc://{folder}/socket"


@contextlib.contextmanager
def _socket(address, kind, bind):
    """A socket without limits of its own, in a context of this process's."""
    zmq = importlib.import_module("zmq")
    with zmq.Context() as context, context.socket(getattr(zmq, kind)) as sock:
        sock.sndhwm = sock.rcvhwm = 0
        (sock.bind if bind else sock.connect)(address)
        yield sock


def _zmq_consume(address, conn):
    with _socket(address, "PULL", False) as sock:
        while (n := sock.recv_pyobj()) is not None:
            right = 0
            for expected in range(n):
                right += sock.recv_pyobj() == expected
            conn.send(right)


class _Put:
    """What the rows call put is send_pyobj: a pickle, as in a queue."""

    def __init__(self, sock):
        self.put = sock.send_pyobj


@way(INTS, "pyzmq")
def zmq_throughput(side):
    conn, far = FORK.Pipe()
    with (
        _address() as address,
        child(_zmq_consume, address, far),
        _socket(address, "PUSH", True) as sock,
    ):

        def sample(n):
            seconds, right = timed(channels.produce, _Put(sock), conn, n)
            expect(right, n)
            return seconds

        yield sample
        sock.send_pyobj(None)


def _zmq_echo(address):
    with _socket(address, "PAIR", False) as sock:
        channels.echo(sock.recv_pyobj, sock.send_pyobj)


for _name in TRIPS:

    @way(_name, "pyzmq")
    def zmq_round_trip(side):
        with (
            _address() as address,
            child(_zmq_echo, address),
            _socket(address, "PAIR", True) as sock,
        ):
            yield channels.round_trips(sock.send_pyobj, sock.recv_pyobj)
            sock.send_pyobj(None)


def _zmq_swallow(address, conn, arrays):
    with _socket(address, "PAIR", False) as sock:
        if arrays:
            numpy = importlib.import_module("numpy")
            large.swallow(lambda: _zmq_array(numpy, sock.recv(copy=False)), conn)
        else:
            large.swallow(lambda: sock.recv() or None, conn)


def _zmq_array(numpy, frame):
    """As its documents have it: an array's buffer is the message, and a view of it comes out."""
    return numpy.frombuffer(frame, dtype=numpy.int64) if len(frame) else None


def _zmq_large(make):
    def opened(side):
        thing = make(large.size_for(side))
        arrays = make is large.numpy_array
        conn, far = FORK.Pipe()
        with (
            _address() as address,
            child(_zmq_swallow, address, far, arrays),
            _socket(address, "PAIR", True) as sock,
        ):
            yield large.handing_over(lambda it: sock.send(it, copy=not arrays), conn, thing)
            sock.send(b"")

    return opened


for _name in large.NAMES:
    _make = large.numpy_array if "numpy" in _name else large.some_bytes
    way(_name, "pyzmq")(_zmq_large(_make))


def _zmq_echo_bytes(address):
    with _socket(address, "REP", False) as sock:
        while data := sock.recv():
            sock.send(data)
        sock.send(b"")


@way(published.LATENCY, "pyzmq")
def zmq_lat(side):
    with (
        _address() as address,
        child(_zmq_echo_bytes, address),
        _socket(address, "REQ", True) as sock,
    ):

        def sample(n):
            seconds, right = timed(published.latency, sock.send, sock.recv, n)
            expect(right, n)
            return seconds

        yield sample
        sock.send(b"")
        sock.recv()


def _zmq_sink(address):
    """perf.py's ROUTER: each message comes with its sender's name before it."""
    with _socket(address, "ROUTER", False) as sock:
        while True:
            name, count = sock.recv_multipart()
            if not int(count):
                break
            total = sum(len(sock.recv_multipart()[1]) for _ in range(int(count)))
            sock.send_multipart([name, b"%d" % total])


@way(published.THROUGHPUT, "pyzmq")
def zmq_thr(side):
    with (
        _address() as address,
        child(_zmq_sink, address),
        _socket(address, "DEALER", True) as sock,
    ):

        def sample(n):
            seconds, total = timed(published.throughput, sock.send, sock.recv, n)
            expect(total, n * published.SIZE)
            return seconds

        yield sample
        sock.send(b"0")


#
# iceoryx2: one number in a loan, and both ends look all the time
#


def _ports(name):
    """A node, and how to make a publisher and a subscriber of one service's."""
    iox2 = importlib.import_module("iceoryx2")
    iox2.set_log_level(iox2.LogLevel.Error)
    node = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)
    service = node.service_builder(iox2.ServiceName.new(name)).publish_subscribe(ctypes.c_int64)
    service = service.subscriber_max_buffer_size(1024).enable_safe_overflow(False)
    return node, service.open_or_create()


def _iox_send(publisher, number):
    sample = publisher.loan_uninit()
    sample.write_payload(ctypes.c_int64(number)).send()


def _iox_receive(subscriber):
    while True:
        sample = subscriber.receive()
        if sample is not None:
            number = sample.payload().contents.value
            sample.delete()
            return number


def _iox_echo(there, back, ready):
    _, inbox = _ports(there)
    _, outbox = _ports(back)
    subscriber = inbox.subscriber_builder().create()
    publisher = outbox.publisher_builder().create()
    ready.send(True)
    while (number := _iox_receive(subscriber)) >= 0:
        _iox_send(publisher, number)


for _name in TRIPS:

    @way(_name, "iceoryx2")
    def iox_round_trip(side):
        there, back = f"there-{uuid.uuid4()}", f"back-{uuid.uuid4()}"
        conn, far = FORK.Pipe()
        with child(_iox_echo, there, back, far):
            _, outbox = _ports(there)
            _, inbox = _ports(back)
            subscriber = inbox.subscriber_builder().create()
            publisher = outbox.publisher_builder().create()
            expect(conn.recv(), True)
            yield channels.round_trips(
                lambda number: _iox_send(publisher, number), lambda: _iox_receive(subscriber)
            )
            _iox_send(publisher, -1)


for _name in (INTS, MANY):
    unable(_name, "iceoryx2", "a publisher does not wait for room: it fails, or overwrites")


#
# torch.multiprocessing: a tensor goes as a handle on shared memory
#


def _torch_swallow(inbox, conn):
    large.swallow(lambda: None if (got := inbox.get()) is None else got.numpy(), conn)


def _torch_large(kind):
    """Each is a copy, as with everybody else: the sender may go on with its own."""

    def opened(side):
        torch = importlib.import_module("torch")
        context = importlib.import_module("torch.multiprocessing").get_context("fork")
        tensor = torch.from_numpy(large.numpy_array(large.size_for(side)))
        conn, far = FORK.Pipe()
        inbox = getattr(context, kind)()
        with child(_torch_swallow, inbox, far):
            yield large.handing_over(lambda _: inbox.put(tensor.clone()), conn, tensor.numpy())
            inbox.put(None)

    return opened


for _name in large.NAMES:
    if "numpy" in _name:
        way(_name, "torch")(_torch_large("Queue" if _name.startswith("Queue") else "SimpleQueue"))
