"""fastmp and the stdlib's multiprocessing used side by side in one program, without install().

Their state is one, and each one's objects work in the other's children.
"""

import multiprocessing
import multiprocessing.connection
import multiprocessing.queues
import multiprocessing.util
import os
import pickle
import socket
import sys
import textwrap
from concurrent.futures import ProcessPoolExecutor

import pytest

import fastmp
import fastmp.connection
import fastmp.queues
import fastmp.util
from tests.support.run import run

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


@pytest.mark.parametrize("setting", ["multiprocessing", "fastmp"])
def test_a_start_method_that_either_sets_is_boths(start_method, tmp_path, setting):
    """Set once, and for both: the default contexts of both make such processes."""
    program = f"""
        import fastmp, multiprocessing
        both = fastmp, multiprocessing
        assert [package.get_start_method(allow_none=True) for package in both] == [None] * 2
        {setting}.set_start_method({start_method!r})
        for package in both:
            try:
                package.set_start_method("fork")
            except RuntimeError as e:
                print(e)
            print(package.get_start_method(), type(package.get_context()).__name__)
    """
    result = run("-c", textwrap.dedent(program), cwd=tmp_path)
    name = {"fork": "Fork", "spawn": "Spawn", "forkserver": "ForkServer"}[start_method]
    assert result.err == ""
    assert result.out.splitlines() == [
        "context has already been set",
        f"{start_method} {name}Context",
    ] * len(BOTH)


def tell_authkey(sender):
    sender.send(bytes(multiprocessing.current_process().authkey))
    sender.send(bytes(fastmp.current_process().authkey))


@pytest.mark.parametrize("setting", BOTH, ids=["set by fastmp", "set by stdlib"])
def test_an_authkey_that_either_sets_is_boths(child, pipe, setting):
    receiver, sender = pipe
    before = setting.current_process().authkey
    setting.current_process().authkey = b"another key"
    try:
        child(tell_authkey, sender)
        assert [received(receiver), received(receiver)] == [b"another key"] * 2
    finally:
        setting.current_process().authkey = before


def receive(receiver):
    receiver.recv()


def test_active_children_of_either_sees_both(start_method):
    pipes = [multiprocessing.Pipe(duplex=False) for _ in BOTH]
    processes = [
        package.get_context(start_method).Process(target=receive, args=(receiver,))
        for package, (receiver, _) in zip(BOTH, pipes, strict=True)
    ]
    for process in processes:
        process.start()
    for package in BOTH:
        assert set(package.active_children()) == set(processes)
    for process, (receiver, sender) in zip(processes, pipes, strict=True):
        with receiver, sender:
            sender.send(None)
            process.join(TIMEOUT)
        assert process.exitcode == 0
        process.close()
    assert fastmp.active_children() == multiprocessing.active_children() == []


def tell_active_children(sender):
    """In a child: its own children, and not its siblings."""
    held, holding = multiprocessing.get_context("fork").Pipe(duplex=False)
    processes = [
        package.get_context("fork").Process(target=receive, args=(held,)) for package in BOTH
    ]
    for process in processes:
        process.start()
    sender.send([set(package.active_children()) == set(processes) for package in BOTH])
    for _ in processes:
        holding.send(None)
    for process in processes:
        process.join()
    sender.send([package.active_children() for package in BOTH])


def test_active_children_of_either_sees_both_in_children_of_both(child, pipe):
    receiver, sender = pipe
    child(tell_active_children, sender)
    assert received(receiver) == [True, True]
    assert received(receiver) == [[], []]


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


def fork_and_tell(other, sender):
    forked = [Forked(fastmp), Forked(multiprocessing)]
    process = (
        sys.modules[other].get_context("fork").Process(target=tell_forked, args=(sender, forked))
    )
    process.start()
    process.join()


def test_after_fork_functions_of_either_run_where_children_of_both_fork(child, pipe, other):
    """A spawned child has none of its parent's; its own run in what it forks."""
    receiver, sender = pipe
    child(fork_and_tell, other.__name__, sender)
    assert received(receiver) == [True, True]


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


@pytest.mark.parametrize("sending", [True, False], ids=["sends", "receives"])
def test_ends_of_one_way_pipes_work_in_the_others_children(child, other, start_method, sending):
    receiver, sender = other.get_context(start_method).Pipe(duplex=False)
    with receiver, sender:
        if sending:
            child(sender_sends, sender)
            assert received(receiver) == ["item"] * 1000
        else:
            process = child(receiver_receives, receiver)
            sender.send(["item"] * 1000)
            process.join(TIMEOUT)


def sender_sends(sender):
    sender.send(["item"] * 1000)


def receiver_receives(receiver):
    assert receiver.recv() == ["item"] * 1000


def forward(queue):
    """Answer through a connection that comes with the message."""
    connection, item = queue.get()
    connection.send(item)
    connection.close()


@pytest.mark.parametrize("carrier", ["Queue", "SimpleQueue", "Pipe"])
def test_connections_pass_through_what_the_other_made(child, package, other, carrier, start_method):
    """A connection of the one sent through a queue or a pipe of the other, while both run."""
    receiver, sender = other.get_context(start_method).Pipe(duplex=False)
    if carrier == "Pipe":
        there, here = package.get_context(start_method).Pipe(duplex=False)
        child(forward_from_pipe, there)
        here.send((sender, "item"))
        there.close()
    else:
        here = getattr(package.get_context(start_method), carrier)()
        child(forward, here)
        here.put((sender, "item"))
    assert received(receiver) == "item"
    receiver.close()
    sender.close()
    here.close()
    if carrier == "Queue":
        here.join_thread()


def forward_from_pipe(there):
    connection, item = there.recv()
    connection.send(item)
    connection.close()
    there.close()


def acquire_and_tell(lock, sender):
    with lock:
        sender.send("acquired")


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"])
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


def wait_for_notice(condition, sender):
    with condition:
        sender.send("waiting")
        sender.send(condition.wait(TIMEOUT))


def test_conditions_work_in_the_others_children(child, other, pipe, start_method):
    receiver, sender = pipe
    condition = other.get_context(start_method).Condition()
    child(wait_for_notice, condition, sender)
    assert received(receiver) == "waiting"
    with condition:
        condition.notify()
    assert received(receiver) is True


def meet(barrier, sender):
    sender.send(barrier.wait(TIMEOUT) in (0, 1))


def test_barriers_work_in_the_others_children(child, other, pipe, start_method):
    receiver, sender = pipe
    barrier = other.get_context(start_method).Barrier(2)
    child(meet, barrier, sender)
    assert barrier.wait(TIMEOUT) in (0, 1)
    assert received(receiver) is True


def append(items, item):
    items.append(item)


def test_proxies_work_in_the_others_children(child, other, start_method):
    with other.get_context(start_method).Manager() as manager:
        items = manager.list()
        child(append, items, "item").join(TIMEOUT)
        assert list(items) == ["item"]


def map_in_a_pool(other, method, sender):
    with sys.modules[other].get_context(method).Pool(1) as pool:
        sender.send(pool.map(abs, [-1, -2]))


def test_pools_of_one_run_in_the_others_children(child, other, pipe, start_method):
    receiver, sender = pipe
    child(map_in_a_pool, other.__name__, start_method, sender)
    assert received(receiver) == [1, 2]


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


#
# The fork server is one
#

SERVER = """
import os, sys
import fastmp, multiprocessing
import fastmp.forkserver, multiprocessing.forkserver

def tell():
    print(sorted({"fastmp._served", "wave"} & set(sys.modules)), os.getppid(), flush=True)

if __name__ == "__main__":
    assert fastmp.forkserver is multiprocessing.forkserver
    multiprocessing.set_forkserver_preload(["wave", "no_such_module"])
    first, second = {order}
    first.forkserver.ensure_running()
    server = multiprocessing.forkserver._forkserver._forkserver_pid
    for package in second, first:
        process = package.get_context("forkserver").Process(target=tell)
        process.start()
        process.join()
        assert process.exitcode == 0
    assert multiprocessing.forkserver._forkserver._forkserver_pid == server
    print(server)
"""


@pytest.mark.parametrize("order", ["fastmp, multiprocessing", "multiprocessing, fastmp"])
def test_the_fork_server_is_one_and_has_loaded_fastmp(tmp_path, order):
    (tmp_path / "program.py").write_text(SERVER.replace("{order}", order))
    result = run("program.py", cwd=tmp_path)
    assert result.err == ""
    *children, server = result.out.splitlines()
    assert children == [f"['fastmp._served', 'wave'] {server}"] * 2


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="its clients authenticate themselves")
def test_the_fork_server_outlives_a_client_that_leaves():
    """One that connects, and ends before it has said what it wants."""
    from multiprocessing import forkserver

    forkserver.ensure_running()
    server = forkserver._forkserver._forkserver_pid
    for data in b"", b"x":
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(forkserver._forkserver._forkserver_address)
            client.send(data)
    process = fastmp.get_context("forkserver").Process()
    process.start()
    process.join(TIMEOUT)
    assert process.exitcode == 0
    assert forkserver._forkserver._forkserver_pid == server
    process.close()
