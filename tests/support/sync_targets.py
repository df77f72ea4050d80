"""What the children of tests/test_synchronize*.py run: importable without pytest, and quick."""

import threading
import time
import warnings


def add_under_lock(lock, total, times):
    for _ in range(times):
        with lock:
            total.value += 1


def hold(lock, how, ready):
    """Take the lock in one of several ways and keep it until killed."""
    if how == "with":
        with lock:
            ready.set()
            time.sleep(60)
    for _ in range(2 if how == "twice" else 1):
        lock.acquire()
    ready.set()
    time.sleep(60)


def acquire_and_wait(lock, ready):
    ready.set()
    lock.acquire()


def release(lock):
    lock.release()


def tell_release(queue, lock):
    """Release the lock; put None, or the name of what that raises."""
    try:
        queue.put(lock.release())
    except Exception as e:
        queue.put(type(e).__name__)


def count_recoveries(lock, queue, times):
    """Take the lock so often; tell how often it was taken over from a dead process."""
    warnings.simplefilter("ignore", RuntimeWarning)
    abandoned = 0
    for _ in range(times):
        with lock:
            abandoned += lock.abandoned
    queue.put(abandoned)


def pass_on(process_class, ready, *args):
    """Start a grandchild with what came from the parent."""
    process = process_class(target=release, args=args)
    process.start()
    process.join()
    ready.set()


def state_of(lock, queue, asked):
    """After `asked` is set, tell whether the lock is held, and what it looks like here."""
    asked.wait()
    queue.put((lock.locked(), repr(lock)))


# --- Condition ------------------------------------------


def wait_and_tell(condition, queue, name, timeout=None):
    with condition:
        got = condition.wait(timeout)
        queue.put((name, got))


def wait_in_threads(condition, count):
    """So many threads wait for the condition, until the process is killed."""

    def wait():
        with condition:
            condition.wait()

    for _ in range(count):
        threading.Thread(target=wait, daemon=True).start()
    time.sleep(60)


def notify(condition, n=1):
    with condition:
        condition.notify(n)


def notify_and_hold(condition, ready):
    with condition:
        condition.notify()
        ready.set()
        time.sleep(60)


def play_ping_pong(condition, turn, me, rounds):
    with condition:
        for _ in range(rounds):
            assert condition.wait_for(lambda: turn.value == me, 30)
            turn.value = 1 - me
            condition.notify()


# --- Event ------------------------------------------


def answer(question, reply, rounds):
    for _ in range(rounds):
        assert question.wait(30)
        question.clear()
        reply.set()


def tell_wait(event, queue, ready=None):
    if ready is not None:
        ready.set()
    queue.put(event.wait(30))


def wait_for_rounds(event, arrived, rounds):
    """Wait for the event again and again; it is cleared as soon as it is set."""
    for _ in range(rounds):
        arrived.release()
        assert event.wait(30)


# --- Barrier ------------------------------------------


def pass_barrier(barrier, queue, rounds=1):
    for _ in range(rounds):
        queue.put(outcome_of_wait(barrier))


def outcome_of_wait(barrier, timeout=None):
    try:
        return barrier.wait(timeout)
    except threading.BrokenBarrierError:
        return "broken"


def pass_until_broken(barrier):
    while outcome_of_wait(barrier) != "broken":
        pass


class CountCalls:
    """An action: adds one to a shared number."""

    def __init__(self, number):
        self.number = number

    def __call__(self):
        self.number.value += 1


class SleepInAction:
    """An action that tells that it runs, and never returns."""

    def __init__(self, running):
        self.running = running

    def __call__(self):
        self.running.set()
        time.sleep(60)
