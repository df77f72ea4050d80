"""Small programs that end in the middle of something: `at_exit.py MODULE METHOD PROGRAM`.

MODULE is fastmp or multiprocessing.  A program that is to be sent a signal prints "ready" first.
"""

import atexit
import importlib
import os
import resource
import sys
import threading
import time

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # should it be aborted, for its stacks
mp = importlib.import_module(sys.argv[1])
ctx = mp.get_context(sys.argv[2])
LONG = 100.0
BIG = b"x" * 3_000_000


#
# What children and workers do
#


def nap(seconds=LONG):
    time.sleep(seconds)


def greet(queue):
    queue.put("here")
    nap()


def put_much(queue):
    queue.put(BIG)
    queue.put(BIG)


def put_much_and_fail(queue):
    put_much(queue)
    raise ValueError("of a child")


def put_much_and_leave(queue):
    put_much(queue)
    os._exit(7)


def wait_in_a_thread(queue):
    threading.Thread(target=queue.get, daemon=True).start()
    time.sleep(0.1)


def double(n):
    return 2 * n


def ready():
    print("ready", flush=True)


#
# The programs
#

PROGRAMS = {}


def program(function):
    PROGRAMS[function.__name__] = function
    return function


def start(target, *args, daemon=False):
    p = ctx.Process(target=target, args=args, daemon=daemon)
    p.start()
    return p


@program
def full_queues():
    queues = [ctx.Queue(), ctx.JoinableQueue(), ctx.SimpleQueue(), ctx.Queue(2)]
    for queue in queues:
        put_much(queue)
    assert queues[-1].full()


@program
def full_queue_of_a_child_joined_first():
    queue = ctx.Queue()
    p = start(put_much, queue)
    p.join()
    print(p.exitcode, len(queue.get()), len(queue.get()))


@program
def full_queue_that_nobody_reads():
    start(put_much, ctx.Queue())


@program
def full_queue_of_a_child_that_fails():
    queue = ctx.Queue()
    children = [start(put_much_and_fail, queue), start(put_much_and_leave, queue)]
    for p in children:
        p.join()
    print([p.exitcode for p in children], [len(queue.get()) for _ in range(4)])


@program
def full_queue_and_an_exception():
    queue = ctx.Queue()
    put_much(queue)
    raise ValueError("of the main program")


@program
def closed_and_joined_queue():
    queue = ctx.Queue()
    put_much(queue)
    queue.close()
    queue.join_thread()


@program
def live_daemons():
    queue = ctx.Queue()
    for _ in range(3):
        start(greet, queue, daemon=True)
    print([queue.get() for _ in range(3)])


@program
def a_child_to_wait_for():
    start(nap, 0.3)


@program
def live_daemons_and_an_exception():
    live_daemons()
    sys.exit("of the main program")


@program
def threads_that_wait():
    queue, simple, lock, event = ctx.Queue(), ctx.SimpleQueue(), ctx.Lock(), ctx.Event()
    here, there = ctx.Pipe()
    condition, barrier, semaphore = ctx.Condition(), ctx.Barrier(2), ctx.Semaphore(0)
    sleeper = start(nap, daemon=True)
    lock.acquire()

    def wait_for_condition():
        with condition:
            condition.wait()

    connection = importlib.import_module(f"{mp.__name__}.connection")
    waits = [queue.get, simple.get, lock.acquire, event.wait, there.recv, wait_for_condition]
    waits += [barrier.wait, semaphore.acquire, sleeper.join, lambda: here.poll(None)]
    waits += [lambda: connection.wait([here, there])]
    for wait in waits:
        threading.Thread(target=wait, daemon=True).start()
    time.sleep(0.3)
    print(threading.active_count())


def waiters_of_a_pool(pool):
    """Threads that wait for results, and what they are told."""
    assert pool.map(double, [1, 2]) == [2, 4]
    result, items, told = pool.apply_async(nap), pool.imap(nap, [LONG]), []

    def run(wait):
        try:
            wait()
        except Exception as e:
            told.append(type(e).__name__)

    waits = [result.get, result.wait, lambda: next(items)]
    threads = [threading.Thread(target=run, args=(wait,), daemon=True) for wait in waits]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    return threads, told


@program
def threads_that_wait_for_a_terminated_pool():
    pool = ctx.Pool(2)
    threads, told = waiters_of_a_pool(pool)
    pool.terminate()
    for thread in threads:
        thread.join()
    print(told)


@program
def threads_that_wait_for_a_pool():
    PROGRAMS["pool"] = ctx.Pool(2)
    waiters_of_a_pool(PROGRAMS["pool"])
    print("left")


@program
def a_thread_of_a_child_that_waits():
    queue = ctx.Queue()
    p = start(wait_in_a_thread, queue)
    p.join()
    print(p.exitcode)


@program
def a_running_pool_and_an_exception():
    pool = ctx.Pool(2)
    pool.map(double, range(4))
    PROGRAMS["results"] = pool.map_async(nap, [LONG] * 4), pool.imap_unordered(nap, [LONG] * 4)
    raise ValueError("of the main program")


@program
def a_closed_pool():
    pool = ctx.Pool(2)
    PROGRAMS["results"] = pool.map_async(nap, [LONG] * 4, callback=print)
    pool.close()


@program
def a_pool_left_by_os_exit():
    pool = ctx.Pool(2)
    pool.map(double, range(4))
    PROGRAMS["results"] = pool.map_async(nap, [0.5] * 4)
    os._exit(7)


@program
def handlers_that_use_them():
    queue, pool = ctx.Queue(), ctx.Pool(1)
    pool.apply(double, (1,))

    def at_exit():
        queue.put(BIG)
        print(len(queue.get()))
        with ctx.Lock():
            print("locked")

    atexit.register(at_exit)
    queue.put(1)
    queue.get()


@program
def queues_and_a_signal():
    queue = ctx.Queue()
    start(greet, queue, daemon=True)
    queue.get()
    ready()
    queue.get()


@program
def a_full_queue_and_a_signal():
    queue = ctx.Queue(1)
    queue.put(1)
    ready()
    queue.put(2)


@program
def a_pool_and_a_signal():
    with ctx.Pool(2) as pool:
        pool.map(double, range(4))
        ready()
        pool.map(nap, [LONG] * 4)


@program
def a_pool_left_behind_and_a_signal():
    pool = ctx.Pool(2)
    pool.map(double, range(4))
    PROGRAMS["results"] = pool.map_async(nap, [0.5] * 4)
    ready()
    while True:  # one long sleep could begin just after the signal has come
        time.sleep(0.1)


if __name__ == "__main__":
    PROGRAMS[sys.argv[3]]()
