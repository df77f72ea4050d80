"""pyzmq over ipc: sockets between two processes, in the pattern that its documents give."""

import contextlib
import importlib
import tempfile

from ..rows import expect, timed, way
from ..suites import channels, large, published
from .children import FORK, child


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


@way(channels.INTS, "pyzmq")
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


for _name in channels.TRIPS:

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
        yield published.latencies(sock.send, sock.recv)
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
        yield published.throughputs(sock.send, sock.recv)
        sock.send(b"0")
