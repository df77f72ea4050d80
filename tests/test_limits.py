"""Limits of the machine: a clear exception, and everything goes on afterwards."""

import os
import resource

import pytest

import fastmp
from tests.support.machine import address_space, in_a_limited_child

MIB = 1 << 20
GIB = 1 << 30


def fill(queue, error):
    """Put until it fails, then show that nothing was lost and that the queue goes on."""
    message = b"x" * MIB
    put = 0
    with pytest.raises(error):
        while put < 1000:
            queue.put(message)
            put += 1
    assert 0 < put < 1000
    assert queue.qsize() == put
    for _ in range(put):
        assert queue.get() == message
    queue.put("it goes on")
    assert queue.get() == "it goes on"


def test_queue_under_a_limit_on_file_sizes():
    queue = fastmp.Queue()
    in_a_limited_child(resource.RLIMIT_FSIZE, 20 * MIB, lambda: fill(queue, OSError))
    queue.put(1)
    assert queue.get() == 1


@pytest.mark.no_sanitizer("ASan's own allocator aborts under RLIMIT_AS")
def test_queue_under_a_limit_on_memory():
    queue = fastmp.Queue()
    in_a_limited_child(
        resource.RLIMIT_AS, address_space() + 200 * MIB, lambda: fill(queue, MemoryError)
    )
    queue.put(1)
    assert queue.get() == 1


@pytest.mark.parametrize("make", ["Queue", "SimpleQueue", "JoinableQueue", "Pipe", "Pool"])
def test_no_descriptor_left(make):
    def job():
        made = []
        with pytest.raises(OSError, match="Too many open files"):
            while len(made) < 100:
                made.append(getattr(fastmp, make)(*((1,) if make == "Pool" else ())))
        for pool in made if make == "Pool" else ():
            pool.terminate()
            pool.join()
        del made
        queue = fastmp.Queue()
        queue.put(1)
        assert queue.get() == 1

    in_a_limited_child(resource.RLIMIT_NOFILE, len(os.listdir("/proc/self/fd")) + 40, job)


def test_many_locks_take_few_descriptors():
    def job():
        locks = [fastmp.Lock() for _ in range(10_000)]
        for lock in locks[::100]:
            with lock:
                assert lock.locked()

    in_a_limited_child(resource.RLIMIT_NOFILE, len(os.listdir("/proc/self/fd")) + 20, job)


def available_memory():
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def test_more_than_the_machine_has_is_refused():
    with pytest.raises((MemoryError, OSError)):
        fastmp.RawArray("b", 1 << 45)
    assert fastmp.RawArray("b", 10)[9] == 0


def echo_length(receive, send):
    data = receive()
    send((len(data), data[:3], data[-3:]))


@pytest.mark.watchdog(300)
@pytest.mark.skipif(available_memory() < 16 * GIB, reason="needs 16 GiB of free memory")
@pytest.mark.once("gigabytes are copied on one Python; the same C code does it on each")
@pytest.mark.parametrize("way", ["Pipe", "Queue"])
def test_messages_above_2_gib(way):
    message = bytes(2 * GIB + 5) + b"end"
    if way == "Pipe":
        here, there = fastmp.Pipe()
        ends = (here.send_bytes, here.recv), (there.recv_bytes, there.send)
    else:
        out, back = fastmp.Queue(), fastmp.Queue()
        ends = (out.put, back.get), (out.get, back.put)
    p = fastmp.get_context("fork").Process(target=echo_length, args=ends[1])
    p.start()
    ends[0][0](message)
    assert ends[0][1]() == (2 * GIB + 8, b"\0\0\0", b"end")
    p.join()
    assert p.exitcode == 0
