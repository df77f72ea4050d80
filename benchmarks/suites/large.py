"""Large messages: a child says how long each was, and the checksum of a byte in each page."""

import time

from ..digests import digest
from ..rows import Unable, expect, row, timed

LARGE = 64 << 20
QUICK_LARGE = 4 << 20
MESSAGES = 4  # of a sample
# While others have their turns, a virtual machine may give memory that nobody has used for two
# seconds back to its host; the next message has to get it again. The turns are the benchmark's, not
# the user's, so a sample begins with a message that does not count. A row of its own has its cost.
PAUSE = 3.0
QUICK_PAUSE = 0.1


def swallow(get, conn):
    while (thing := get()) is not None:
        conn.send(digest(thing))


def _swallow_queue(queue, conn):
    swallow(queue.get, conn)


def _swallow_conn(bulk, conn):
    swallow(bulk.recv, conn)


def some_bytes(size):
    return bytes(range(251)) * (size // 251)


def numpy_array(size):
    try:
        import numpy
    except ImportError:
        raise Unable("needs numpy") from None
    return numpy.arange(size // 8, dtype=numpy.int64)


def hand_over(put, conn, thing, n):
    for _ in range(n):
        put(thing)
        found = conn.recv()
    return found


def size_for(side):
    return QUICK_LARGE if side.quick else LARGE


def pause_for(side):
    return QUICK_PAUSE if side.quick else PAUSE


def handing_over(put, conn, thing, pause=None):
    """The sample of these rows: `put` it, and be told what came out.

    Before it comes a message that does not count, or a pause of so many seconds.
    """
    wanted = digest(thing)

    def sample(n):
        if pause is None:
            hand_over(put, conn, thing, 1)
        else:
            time.sleep(pause)
        seconds, found = timed(hand_over, put, conn, thing, n)
        expect(tuple(found), wanted)
        return seconds

    return sample


def _large(by_queue, make, rested=False):
    def opened(side):
        context = side.context()
        thing = make(size_for(side))
        conn, far = context.Pipe()
        if by_queue:
            queue = context.Queue()
            put, target, args = queue.put, _swallow_queue, (queue, far)
        else:
            far_bulk, bulk = context.Pipe(False)
            put, target, args = bulk.send, _swallow_conn, (far_bulk, far)
        child = context.Process(target=target, args=args, daemon=True)
        child.start()
        yield handing_over(put, conn, thing, pause_for(side) if rested else None)
        put(None)
        child.join()

    return opened


NAMES = []
for _kind, _make in (("bytes", some_bytes), ("numpy array", numpy_array)):
    for _name in ("Queue", "Pipe"):
        NAMES.append(f"{_name}: 64 MiB {_kind} (4 MiB if quick)")
        row("large", NAMES[-1], count=MESSAGES, quick_count=1)(_large(_name == "Queue", _make))
row("large", "Queue: 64 MiB bytes after 3 s of rest (4 MiB if quick)", count=1, quick_count=1)(
    _large(True, some_bytes, rested=True)
)
