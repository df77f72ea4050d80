"""Locks and the like, without contention but for one row."""

from ..rows import expect, repeated, row, timed, times
from .children import working_child

acquire_and_release = repeated(
    "acquire(); release()", "lock", setup="acquire, release = lock.acquire, lock.release"
)
enter_and_exit = repeated("with lock: pass", "lock")
_set_and_clear = repeated("event.set(); event.clear()", "event")


def _uncontended(kind, loop):
    """Rows of locks that must be free, hence can be taken at once, when the loop is over."""

    def opened(side):
        lock = getattr(side.context(), kind)()

        def sample(n):
            seconds, _ = timed(loop, lock, n)
            expect(lock.acquire(False), True)
            lock.release()
            return seconds

        yield sample

    return opened


row("lock", "Lock: acquire, release")(_uncontended("Lock", acquire_and_release))
row("lock", "Lock: with")(_uncontended("Lock", enter_and_exit))
row("lock", "RLock: with")(_uncontended("RLock", enter_and_exit))
row("lock", "Semaphore: acquire, release")(_uncontended("Semaphore", acquire_and_release))


@row("lock", "Event: set, clear")
def event_set_clear(side):
    event = side.context().Event()

    def sample(n):
        seconds, _ = timed(_set_and_clear, event, n)
        expect(event.is_set(), False)
        return seconds

    yield sample


def _add_locked(lock, number, n):
    for _ in times(n):
        with lock:
            number.value += 1


@row("lock", "Lock: two processes, with lock: raw.value += 1")
def lock_contended(side):
    context = side.context()
    lock, number = context.Lock(), context.RawValue("q", 0)
    with working_child(context, _add_locked, lock, number) as conn:

        def both(n):
            conn.send(n - n // 2)
            _add_locked(lock, number, n // 2)
            conn.recv()

        def sample(n):
            number.value = 0
            seconds, _ = timed(both, n)
            expect(number.value, n)
            return seconds

        yield sample
