"""Mistakes that type checkers must find, each on a line that is marked by ``# refused``.

Read by type checkers, never run: check.py compares the marks with what mypy --strict and pyright
say, so that neither can fall silent, because all is Any, without being noticed.
"""

from ctypes import c_int

import fastmp
import fastmp.pool
import fastmp.queues
import fastmp.synchronize
from fastmp import Array, Lock, Manager, Pipe, Pool, Process, Queue, SimpleQueue, Value


def length(text: str) -> int:
    return len(text)


def misuse(queue: "fastmp.queues.Queue[int]", lock: fastmp.synchronize.Lock) -> None:
    queue.put("text")  # refused
    text: str = queue.get()  # refused
    queue.put_many(["text"])  # refused
    texts: list[str] = queue.get_many(3)  # refused
    queue.put_all([1])  # refused
    Queue(strict="text")  # refused
    SimpleQueue(3)  # refused
    lock.acquire(timeout="text")  # refused
    lock.abandoned = True  # refused
    Lock(robust=1.5)  # refused
    lock.get_value()  # refused
    Process(target=length, args=3)  # refused
    Process(target="length")  # refused
    code: int = Process().exitcode  # refused
    Process().name = 3  # refused
    here, there = Pipe("text")  # refused
    here.send_bytes("text")  # refused
    numbers = Array(c_int, 3)
    numbers[0] = "text"  # refused
    Value(c_int, 1).value = "text"  # refused
    memoryview(lock)  # refused
    with Pool(2) as pool:
        pool.map(length, [1, 2])  # refused
        names: list[str] = pool.map(length, ["text"])  # refused
        pool.imap(length, ["text"], buffersize="text")  # refused
        pool.imap(length, ["text"]).close()  # refused
        pool.apply_async(length, ("text",), callback=3)  # refused
        pool.apply_async(length, ("text",), timeout="soon")  # refused
    fastmp.pool.ThreadPool(2).imap(length, ["text"], buffersize=3)  # refused
    fastmp.pool.ThreadPool(2).apply_async(length, ("text",)).cancel()  # refused
    Manager().dictionary()  # refused
    fastmp.get_context("fork").Process = 3  # refused
    fastmp.get_context(3)  # refused
    fastmp.WorkerLostError("text", pid="text")  # refused
    fastmp.install(True)  # refused
    print(text, texts, code, there, names, fastmp.absent)  # refused
