"""Every primitive once, between processes, with megabytes: `everything.py METHOD`.

First line: how the place treats who asks for names in /dev/shm, or files, as the stdlib does.
"""

import os
import signal
import sys
import tempfile

import fastmp


def try_the_place(what):
    """In a child: map 4 MB of /dev/shm and write to it, and a file here."""
    import mmap

    if what == "disk":
        with tempfile.NamedTemporaryFile(dir=".") as file:
            file.write(b"x" * 4_000_000)
            file.flush()
        return
    fd = os.open("/dev/shm/fastmp-everything", os.O_RDWR | os.O_CREAT)
    os.unlink("/dev/shm/fastmp-everything")
    os.ftruncate(fd, 4_000_000)
    memory = mmap.mmap(fd, 4_000_000)
    for at in range(0, 4_000_000, 4096):
        memory[at] = 1


def place():
    for what in ("disk", "shm"):
        pid = os.fork()
        if pid == 0:
            try:
                try_the_place(what)
            except OSError:
                os._exit(1)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code < 0:
            return signal.Signals(-code).name
        if code > 0:
            return "OSError"
    return "no trouble"


def child(lock, condition, event, barrier, value, array, queue, simple, joinable, there):
    with lock:
        value.value += 1
    event.wait()
    with condition:
        condition.notify()
    barrier.wait()
    array[len(array) - 1] = 7
    queue.put(b"q" * 3_000_000)
    simple.put(b"s" * 3_000_000)
    joinable.put(list(range(100_000)))
    there.send(b"p" * 3_000_000)
    assert there.recv() == "bye"


def work(n):
    return bytes(n)


def main(method):
    print(place(), flush=True)
    ctx = fastmp.get_context(method)
    lock, condition, event, barrier = ctx.RLock(), ctx.Condition(), ctx.Event(), ctx.Barrier(2)
    value, array = ctx.Value("i", 1), ctx.Array("d", 500_000)
    queue, simple, joinable = ctx.Queue(), ctx.SimpleQueue(), ctx.JoinableQueue(5)
    here, there = ctx.Pipe()
    args = (lock, condition, event, barrier, value, array, queue, simple, joinable, there)
    p = ctx.Process(target=child, args=args)
    p.start()
    with condition:
        event.set()
        assert condition.wait(30)
    barrier.wait(30)
    assert len(queue.get()) == len(simple.get()) == len(here.recv()) == 3_000_000
    assert len(joinable.get()) == 100_000
    joinable.task_done()
    joinable.join()
    here.send("bye")
    p.join()
    assert (p.exitcode, value.value, array[-1]) == (0, 2, 7)
    with ctx.Pool(2) as pool:
        assert [len(x) for x in pool.map(work, [3_000_000] * 4, chunksize=1)] == [3_000_000] * 4
    pool.join()
    print("all of it works")


if __name__ == "__main__":
    main(sys.argv[1])
