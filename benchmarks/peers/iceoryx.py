"""iceoryx2: publish and subscribe without copies; both ends look all the time.

Its Python sends what ctypes describes, so a number is an int64, and an array its bytes in a slice,
which the sender copies into the loan and the receiver views. A publisher waits for room by looking,
too ("retry until delivered").
"""

import contextlib
import ctypes
import importlib
import uuid

from ..digests import digest
from ..rows import expect, timed, unable, way
from ..suites import channels, large
from .children import FORK, child

ROOM = 1024  # messages
END = -1


def _module():
    iox2 = importlib.import_module("iceoryx2")
    iox2.set_log_level(iox2.LogLevel.Error)
    return iox2


class _Service:
    """A service by its name, as one process has it: of numbers, or of slices of bytes."""

    def __init__(self, name, slices=False):
        iox2 = _module()
        self._waiting = iox2.BackpressureStrategy.RetryUntilDelivered
        self._node = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)
        kind = iox2.Slice[ctypes.c_uint8] if slices else ctypes.c_int64
        builder = self._node.service_builder(iox2.ServiceName.new(name)).publish_subscribe(kind)
        builder = builder.subscriber_max_buffer_size(2 if slices else ROOM)
        self._service = builder.enable_safe_overflow(False).open_or_create()

    def publisher(self, size=None):
        builder = self._service.publisher_builder().backpressure_strategy(self._waiting)
        return (builder.initial_max_slice_len(size) if size else builder).create()

    def subscriber(self):
        return self._service.subscriber_builder().create()


def _send(publisher, number):
    publisher.loan_uninit().write_payload(ctypes.c_int64(number)).send()


def _next(subscriber):
    while (sample := subscriber.receive()) is None:
        pass
    return sample


def _receive(subscriber):
    sample = _next(subscriber)
    number = sample.payload().contents.value
    sample.delete()
    return number


#
# There and back
#


def _echo(there, back, conn):
    inbox, outbox = _Service(there), _Service(back)
    subscriber, publisher = inbox.subscriber(), outbox.publisher()
    conn.send("ready")
    while (number := _receive(subscriber)) != END:
        _send(publisher, number)


for _name in channels.TRIPS:

    @way(_name, "iceoryx2")
    def round_trip(side):
        there, back = f"there-{uuid.uuid4()}", f"back-{uuid.uuid4()}"
        conn, far = FORK.Pipe()
        with child(_echo, there, back, far):
            outbox, inbox = _Service(there), _Service(back)
            publisher, subscriber = outbox.publisher(), inbox.subscriber()
            expect(conn.recv(), "ready")
            yield channels.round_trips(
                lambda number: _send(publisher, number), lambda: _receive(subscriber)
            )
            _send(publisher, END)


#
# One way
#


def _consume(name, conn):
    service = _Service(name)
    subscriber = service.subscriber()
    conn.send("ready")
    while (n := _receive(subscriber)) != END:
        right = 0
        for expected in range(n):
            right += _receive(subscriber) == expected
        conn.send(right)


def _produce(publisher, conn, n):
    _send(publisher, n)
    for number in range(n):
        _send(publisher, number)
    return conn.recv()


@way(channels.INTS, "iceoryx2")
def one_way(side):
    name = f"numbers-{uuid.uuid4()}"
    conn, far = FORK.Pipe()
    with child(_consume, name, far):
        service = _Service(name)
        publisher = service.publisher()
        expect(conn.recv(), "ready")

        def sample(n):
            seconds, right = timed(_produce, publisher, conn, n)
            expect(right, n)
            return seconds

        yield sample
        _send(publisher, END)


unable(channels.MANY, "iceoryx2", "sends one message at a time")


#
# Arrays
#


@contextlib.contextmanager
def _viewed(subscriber):
    """The bytes of the next slice, or None at the end, for as long as it is borrowed."""
    sample = _next(subscriber)
    payload = sample.payload()
    size = payload.number_of_elements
    view = (ctypes.c_uint8 * size).from_address(payload.data_ptr)
    yield memoryview(view) if size > 1 else None
    sample.delete()


def _swallow(name, conn):
    service = _Service(name, slices=True)
    subscriber = service.subscriber()
    conn.send("ready")
    while True:
        with _viewed(subscriber) as view:
            if view is None:
                return
            conn.send(digest(view))


def _send_bytes(publisher, data):
    loan = publisher.loan_slice_uninit(data.nbytes)
    ctypes.memmove(loan.payload_ptr, data.ctypes.data, data.nbytes)
    loan.assume_init().send()


def _arrays(side):
    name = f"arrays-{uuid.uuid4()}"
    array = large.numpy_array(large.size_for(side))
    conn, far = FORK.Pipe()
    with child(_swallow, name, far):
        service = _Service(name, slices=True)
        publisher = service.publisher(array.nbytes)
        expect(conn.recv(), "ready")
        yield large.handing_over(lambda it: _send_bytes(publisher, it), conn, array)
        publisher.loan_slice_uninit(1).assume_init().send()


for _name in large.NAMES:
    if "numpy" in _name:
        way(_name, "iceoryx2")(_arrays)
