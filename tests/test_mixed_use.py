"""fastmp and the stdlib's multiprocessing used side by side in one program, without install().

Their state is one, and each one's objects work in the other's children.
"""

import multiprocessing
import multiprocessing.connection
import multiprocessing.queues
import multiprocessing.util
import os
import pickle
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest

import fastmp
import fastmp.connection
import fastmp.queues
import fastmp.util

BOTH = [fastmp, multiprocessing]
TIMEOUT = 30


@pytest.fixture(params=BOTH, ids=["fastmp", "stdlib"])
def package(request):
    """Either package, whose process is started."""
    return request.param


@pytest.fixture
def other(package):
    """The package that *package* is not."""
    return BOTH[1 - BOTH.index(package)]


@pytest.fixture
def child(package, start_method):
    """Starts a process of *package*; all are joined in the end, and have exit code 0."""
    started = []

    def start(target, *args, **options):
        process = package.get_context(start_method).Process(target=target, args=args, **options)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.join(TIMEOUT)
        assert process.exitcode == 0
        process.close()


@pytest.fixture
def pipe(start_method):
    """The receiving and the sending end of a stdlib pipe, to learn what a child has found."""
    receiver, sender = multiprocessing.get_context(start_method).Pipe(duplex=False)
    with receiver, sender:
        yield receiver, sender


def received(receiver):
    assert receiver.poll(TIMEOUT)
    return receiver.recv()


#
# State
#


def tell_state(sender):
    us = fastmp.current_process(), multiprocessing.current_process()
    parents = fastmp.parent_process(), multiprocessing.parent_process()
    sender.send(
        {
            "same process": us[0] is us[1],
            "name": us[0].name,
            "same parent": parents[0] is parents[1],
            "parent": parents[0].pid,
            "authkey": bytes(us[0].authkey),
            "methods": [fastmp.get_start_method(), multiprocessing.get_start_method()],
            "children": [fastmp.active_children(), multiprocessing.active_children()],
        }
    )


def test_both_packages_agree_in_a_child(child, pipe, start_method):
    receiver, sender = pipe
    child(tell_state, sender, name="a child")
    assert received(receiver) == {
        "same process": True,
        "name": "a child",
        "same parent": True,
        "parent": os.getpid(),
        "authkey": bytes(multiprocessing.current_process().authkey),
        "methods": [start_method] * 2,
        "children": [[], []],
    }


def receive(receiver):
    receiver.recv()


def test_active_children_of_either_sees_both(start_method):
    receiver, sender = multiprocessing.Pipe(duplex=False)
    with receiver, sender:
        processes = [
            package.get_context(start_method).Process(target=receive, args=(receiver,))
            for package in BOTH
        ]
        for process in processes:
            process.start()
        for package in BOTH:
            assert set(package.active_children()) == set(processes)
        for _ in processes:
            sender.send(None)
        for process in processes:
            process.join(TIMEOUT)
            assert process.exitcode == 0
            process.close()
    assert fastmp.active_children() == multiprocessing.active_children() == []


def start_grandchild(other, sender):
    other = sys.modules[other]
    process = other.Process(target=print)
    try:
        process.start()
    except AssertionError as e:
        sender.send(str(e))
    else:
        process.join()
        sender.send(None)


@pytest.mark.parametrize("daemon", [False, True])
def test_a_daemonic_child_has_no_children_of_the_other(child, pipe, other, daemon):
    receiver, sender = pipe
    child(start_grandchild, other.__name__, sender, daemon=daemon)
    expected = "daemonic processes are not allowed to have children" if daemon else None
    assert received(receiver) == expected


#
# What runs in a child: finalizers and after-fork functions
#


def finalize_both(sender):
    for util in fastmp.util, multiprocessing.util:
        util.Finalize(None, sender.send, args=("finalized",), exitpriority=1)


def test_finalizers_of_either_run_in_children_of_both(child, pipe):
    receiver, sender = pipe
    child(finalize_both, sender)
    assert [received(receiver), received(receiver)] == ["finalized"] * 2


class Forked:
    """Knows in which process it was last told of a fork."""

    def __init__(self, package):
        self.pid = None
        package.util.register_after_fork(self, Forked.after_fork)

    def after_fork(self):
        self.pid = os.getpid()


def tell_forked(sender, forked):
    sender.send([each.pid == os.getpid() for each in forked])


@pytest.mark.parametrize("package", BOTH)
def test_after_fork_functions_of_either_run_in_forked_children(package, pipe):
    receiver, sender = pipe
    forked = [Forked(fastmp), Forked(multiprocessing)]
    process = package.get_context("fork").Process(target=tell_forked, args=(sender, forked))
    process.start()
    assert received(receiver) == [True, True]
    process.join(TIMEOUT)
    process.close()


#
# Objects of one in the other's children
#


def put(queue, item):
    queue.put(item)


def echo(source, destination):
    destination.put(source.get())


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue", "JoinableQueue"])
def test_queues_work_in_the_others_children(child, other, start_method, kind):
    ctx = other.get_context(start_method)
    there, back = getattr(ctx, kind)(), getattr(ctx, kind)()
    child(echo, there, back)
    there.put({"an": ["item"]})
    if kind == "SimpleQueue":
        assert back.get() == {"an": ["item"]}
    else:
        assert back.get(timeout=TIMEOUT) == {"an": ["item"]}
    for queue in there, back:
        queue.close()
        if kind != "SimpleQueue":
            queue.join_thread()


class Subclass(fastmp.queues.Queue):
    """As concurrent.futures' and many a recipe's: with arguments of its own."""

    def __init__(self, label, max_size=0, *, ctx, extra=None):
        self.label, self.extra = label, extra
        super().__init__(max_size, ctx=ctx)


def test_subclasses_of_queues_take_arguments_of_their_own(ctx):
    queue = Subclass("label", max_size=1, ctx=ctx, extra=1)
    queue.put(2)
    assert (queue.label, queue.extra, queue.get(timeout=TIMEOUT)) == ("label", 1, 2)
    queue.close()
    queue.join_thread()


def test_stdlib_queues_accept_fastmp_contexts(child, start_method):
    """And are made of fastmp's locks then."""
    ctx = fastmp.get_context(start_method)
    queue = multiprocessing.queues.Queue(3, ctx=ctx)
    child(put, queue, "item")
    assert queue.get(timeout=TIMEOUT) == "item"
    assert queue.qsize() == 0 and not queue.full()
    queue.close()
    queue._writer.close()


def answer(connection):
    connection.send(connection.recv() + 1)
    connection.close()


def test_connections_work_in_the_others_children(child, other, start_method):
    ours, theirs = other.get_context(start_method).Pipe()
    with ours, theirs:
        child(answer, theirs)
        ours.send(1)
        assert received(ours) == 2


def acquire_and_tell(lock, sender):
    with lock:
        sender.send("acquired")


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore"])
def test_locks_work_in_the_others_children(child, other, pipe, start_method, kind):
    receiver, sender = pipe
    lock = getattr(other.get_context(start_method), kind)()
    with lock:
        child(acquire_and_tell, lock, sender)
        assert not receiver.poll(0.05)
    assert received(receiver) == "acquired"


def add(value, array):
    with value.get_lock():
        value.value += 1
    array[1] += 1


def test_values_and_arrays_work_in_the_others_children(child, other, start_method):
    ctx = other.get_context(start_method)
    value, array = ctx.Value("i", 1), ctx.Array("d", [0.5, 1.5])
    child(add, value, array).join(TIMEOUT)
    assert value.value == 2 and array[:] == [0.5, 2.5]


def send_when_told(go, sender):
    go.wait()
    sender.send("text")


def test_events_work_in_the_others_children(child, other, pipe, start_method):
    receiver, sender = pipe
    event = other.get_context(start_method).Event()
    child(send_when_told, event, sender)
    event.set()
    assert received(receiver) == "text"


def test_wait_takes_connections_and_sentinels_of_both(start_method):
    waits = fastmp.connection.wait, multiprocessing.connection.wait
    pipes = [package.get_context(start_method).Pipe() for package in BOTH]
    ends = [end for pipe in pipes for end in pipe]
    processes = [package.get_context(start_method).Process() for package in BOTH]
    for process in processes:
        process.start()
    for wait in waits:
        left = {process.sentinel for process in processes}
        while left:
            ready = wait([*left, *ends], TIMEOUT)
            assert ready and set(ready) <= left
            left -= set(ready)
    for sending, receiving in pipes:
        sending.send(None)
        for wait in waits:
            assert wait(ends, TIMEOUT) == [receiving]
        receiving.recv()
    for wait in waits:
        assert wait(ends, 0) == []
    for process in processes:
        process.join(TIMEOUT)
        process.close()
    for end in ends:
        end.close()


#
# concurrent.futures, and pickling
#


def meaning_and_method(_):
    return fastmp.current_process() is multiprocessing.current_process(), fastmp.get_start_method()


def test_executors_take_fastmps_contexts(ctx, start_method):
    with ProcessPoolExecutor(2, mp_context=ctx) as executor:
        assert list(executor.map(meaning_and_method, range(4))) == [(True, start_method)] * 4


def fail():
    raise KeyError("a key")


def test_executors_bring_exceptions_back(ctx):
    with ProcessPoolExecutor(1, mp_context=ctx) as executor:
        with pytest.raises(KeyError, match="a key"):
            executor.submit(fail).result(TIMEOUT)
        unpicklable = executor.submit(fail, lambda: None)
        with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
            unpicklable.result(TIMEOUT)


def test_reducers_are_shared():
    """A reducer that is registered with either pickler serves both."""
    assert fastmp.reduction.ForkingPickler is multiprocessing.reduction.ForkingPickler
    fastmp.reduction.register(Forked, reduce_forked)
    try:
        data = multiprocessing.reduction.ForkingPickler.dumps(Forked(fastmp))
    finally:
        multiprocessing.reduction.ForkingPickler._extra_reducers.pop(Forked)
    assert pickle.loads(data) == "reduced"


def reduce_forked(forked):
    return str, ("reduced",)


def test_shared_memory_is_shared():
    import multiprocessing.shared_memory

    import fastmp.shared_memory

    assert fastmp.shared_memory is multiprocessing.shared_memory
    block = fastmp.shared_memory.SharedMemory(create=True, size=8)
    again = multiprocessing.shared_memory.SharedMemory(block.name)
    block.buf[0] = 7
    assert again.buf[0] == 7
    again.close()
    block.close()
    block.unlink()
