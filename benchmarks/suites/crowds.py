"""More who wait, or work, than there are processors: what counts is processor time."""

import threading
import time

from ..rows import expect, row

#
# Idle: threads of a few processes wait for what does not come
#

PROCESSES = 10


def _wait_in_lock(lock):
    with lock:
        pass


def _wait_in_queue(queue):
    queue.get()


def _wait_in_event(event):
    event.wait()


def _waiters(wait, thing, threads, ready, seconds, conn):
    """In a child: start so many waiters, and tell what processor time it took to keep them."""
    started = [threading.Thread(target=wait, args=(thing,)) for _ in range(threads)]
    for thread in started:
        thread.start()
    time.sleep(0.2)  # until they sleep
    ready.send(True)
    ready.recv()
    before = time.process_time()
    time.sleep(seconds)
    conn.send(time.process_time() - before)
    for thread in started:
        thread.join()
    conn.send("joined")


def _taken_lock(context):
    lock = context.Lock()
    lock.acquire()
    return lock, lambda n: lock.release()


def _empty_queue(context):
    queue = context.Queue()
    return queue, lambda n: [queue.put(None) for _ in range(n)]


def _unset_event(context):
    event = context.Event()
    return event, lambda n: event.set()


def _idle(make, wait):
    def opened(side):
        context = side.context()
        waiters, seconds = (40, 0.2) if side.quick else (1000, 10.0)

        def sample(n):
            expect(n, 1)
            thing, let_go = make(context)
            conns, ready = [], []
            for _ in range(PROCESSES):
                conn, far = context.Pipe()
                here, there = context.Pipe()
                args = (wait, thing, waiters // PROCESSES, there, seconds, far)
                context.Process(target=_waiters, args=args, daemon=True).start()
                conns.append(conn)
                ready.append(here)
            for conn in ready:
                expect(conn.recv(), True)
            for conn in ready:
                conn.send(True)
            cpu = sum(conn.recv() for conn in conns)
            let_go(waiters)
            expect([conn.recv() for conn in conns], ["joined"] * PROCESSES)
            return max(cpu, 1e-6)

        yield sample

    return opened


for _call, _make, _wait in (
    ("Lock.acquire", _taken_lock, _wait_in_lock),
    ("Queue.get", _empty_queue, _wait_in_queue),
    ("Event.wait", _unset_event, _wait_in_event),
):
    row(
        "crowd",
        f"Idle: 1,000 waiters in {_call} for 10 s, CPU",
        count=1,
        rounds=2,
        seconds=120,
        by_itself=True,
    )(_idle(_make, _wait))

#
# Oversubscribed: 16 processes that work, on however few processors
#

PARTIES = 8


def _producing(queue, n, conn):
    start = time.process_time()
    for number in range(n):
        queue.put(number)
    if hasattr(queue, "join_thread"):  # what the stdlib's feeder thread does is part of it
        queue.close()
        queue.join_thread()
    conn.send(time.process_time() - start)


def _consuming(queue, conn):
    start = time.process_time()
    count = total = 0
    while (number := queue.get()) is not None:
        count += 1
        total += number
    conn.send((time.process_time() - start, count, total))


@row(
    "crowd",
    f"Crowd: {PARTIES} producers, {PARTIES} consumers, CPU for 1,000,000 ints",
    count=1_000_000,
    quick_count=2_000,
    rounds=3,
    seconds=300,
)
def oversubscribed(side):
    """Per message, over all processes; the processes' own start is not in it."""
    context = side.context()

    def sample(n):
        queue = context.Queue()
        each = n // PARTIES
        there = [context.Pipe() for _ in range(PARTIES)]
        back = [context.Pipe() for _ in range(PARTIES)]
        consumers = [
            context.Process(target=_consuming, args=(queue, far), daemon=True) for _, far in back
        ]
        producers = [
            context.Process(target=_producing, args=(queue, each, far), daemon=True)
            for _, far in there
        ]
        for process in consumers + producers:
            process.start()
        cpu = sum(conn.recv() for conn, _ in there)
        for _ in consumers:
            queue.put(None)
        answers = [conn.recv() for conn, _ in back]
        for process in consumers + producers:
            process.join()
        expect(sum(answer[1] for answer in answers), each * PARTIES)
        expect(sum(answer[2] for answer in answers), PARTIES * (each * (each - 1) // 2))
        return cpu + sum(answer[0] for answer in answers)

    yield sample
