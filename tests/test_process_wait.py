"""Waiting for processes: join, sentinels, who collects the exit code, and what is left behind."""

import multiprocessing.connection
import os
import select
import signal
import socket
import sys
import threading
import time

import pytest

import fastmp
from fastmp import resource_tracker, spawn
from tests.support import process_targets as targets
from tests.support import procs
from tests.support.later import later
from tests.support.same import run_script

asyncio = later("asyncio")

EXIT_CODE = 7


@pytest.fixture
def held(ctx):
    """held(): (a process that lives until the connection is closed, that connection).

    Under fork a process started later holds that connection too, so close the last one first.
    """
    started = []

    def start():
        theirs, ours = ctx.Pipe(False)
        if ctx.get_start_method() == "fork":
            p = ctx.Process(target=targets.wait_for_eof_alone, args=(theirs, ours))
        else:
            p = ctx.Process(target=targets.wait_for_eof, args=(theirs,))
        p.start()
        theirs.close()
        started.append((p, ours))
        return p, ours

    yield start
    for p, conn in started:
        conn.close()
        p.kill()
        p.join()


def open_fds():
    return {name: os.readlink(f"/proc/self/fd/{name}") for name in fd_names()}


def fd_names():
    names = os.listdir("/proc/self/fd")
    return [name for name in names if os.path.exists(f"/proc/self/fd/{name}")]


def zombies():
    """Children that were not waited for. (What an earlier child has left is init's to reap.)"""
    ours = procs.family(os.getpid()).values()
    return [p for p in ours if p.state == "Z" and p.ppid == os.getpid()]


# --- join ---------------------------------------------------------------------------------------


def test_join_with_a_timeout_returns_on_time(held):
    p, conn = held()
    for timeout in (0, -1, 0.0, 0.05, 0.25, 1):
        before = time.monotonic()
        assert p.join(timeout) is None
        took = time.monotonic() - before
        assert p.is_alive() and p.exitcode is None
        assert took >= max(timeout, 0) - 0.001
    conn.close()
    assert p.join(30) is None and p.exitcode == 0 and not p.is_alive()


@pytest.mark.parametrize("timeout", ["1", b"1", [], float("nan")])
def test_join_with_a_wrong_timeout(held, timeout):
    p, _ = held()
    with pytest.raises((TypeError, ValueError)):
        p.join(timeout)
    assert p.is_alive()


def test_poll_of_the_handle(held):
    p, conn = held()
    handle = p._popen
    assert handle.poll() is None and handle.poll(os.WNOHANG) is None and handle.returncode is None
    threading.Timer(0.1, conn.close).start()
    assert handle.poll(0) == 0
    assert handle.poll() == handle.poll(flag=0) == handle.wait(timeout=0) == handle.returncode == 0


def test_threads_that_join_the_same_process(ctx):
    """Every one of them sees the exit code, however they race for it."""
    for _ in range(20 if ctx.get_start_method() == "fork" else 4):
        p = ctx.Process(target=targets.sleep_then_exit, args=(0.02, EXIT_CODE))
        p.start()
        seen = []

        def join(p=p, seen=seen, timeout=None):
            p.join(timeout)
            seen.append(p.exitcode)

        def spin(p=p, seen=seen):
            while p.is_alive():
                pass
            seen.append(p.exitcode)

        threads = [threading.Thread(target=join, kwargs={"timeout": t}) for t in (None, 30) * 3]
        threads.append(threading.Thread(target=spin))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [EXIT_CODE] * len(threads)


def test_a_grandchild_does_not_hold_up_a_join(ctx):
    """It has the descriptors of the child that ended; a pidfd does not mind. (Pipes do.)"""
    r, w = ctx.Pipe(False)
    p = ctx.Process(target=targets.exit_leaving_a_grandchild, args=(w,))
    p.start()
    w.close()
    grandchild = r.recv()
    try:
        p.join(20)
        assert p.exitcode == 4
        assert select.select([p.sentinel], [], [], 10)[0]
        os.kill(grandchild, 0)  # it lives
    finally:
        os.kill(grandchild, signal.SIGKILL)


# --- sentinels ----------------------------------------------------------------------------------


def poll_ready(fd, timeout):
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def asyncio_ready(fd, timeout):
    async def main():
        ready = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(fd, ready.set)
        try:
            await asyncio.wait_for(ready.wait(), timeout)
        except asyncio.TimeoutError:
            return False
        finally:
            loop.remove_reader(fd)
        return True

    return asyncio.run(main())


READY = {
    "select": lambda fd, timeout: bool(select.select([fd], [], [], timeout)[0]),
    "poll": poll_ready,
    "asyncio": asyncio_ready,
    "fastmp.connection.wait": lambda fd, t: bool(fastmp.connection.wait([fd], t)),
    "multiprocessing.connection.wait": lambda fd, t: bool(multiprocessing.connection.wait([fd], t)),
}


def test_a_sentinel_is_ready_once_the_process_has_ended(held):
    p, conn = held()
    for name, ready in READY.items():
        assert not ready(p.sentinel, 0.01), name
    conn.close()
    for name, ready in READY.items():
        assert ready(p.sentinel, 30), name
    p.join()
    for name, ready in READY.items():
        assert ready(p.sentinel, 0.5), name  # and stays so


def test_wait_for_several_processes_and_other_things(held):
    three = [held() for _ in range(3)]
    a, b = socket.socketpair()
    with a, b:
        everything = [p.sentinel for p, _ in three] + [a]
        assert fastmp.connection.wait(everything, 0.01) == []
        p, conn = three[-1]
        conn.close()
        assert fastmp.connection.wait(everything, 30) == [p.sentinel]
        p.join()
        # A fork server sends the exit code first and closes its end then.
        assert fastmp.connection.wait([p.sentinel], 30) == [p.sentinel]
        b.send(b"x")
        assert set(fastmp.connection.wait(everything, 30)) == {p.sentinel, a}


def test_a_process_that_outlives_its_parent_hears_of_it(ctx, start_method):
    """At once, even if a sibling that was started later holds what the parent held."""
    r, w = ctx.Pipe(False)
    parent = ctx.Process(target=targets.parent_of_watcher, args=(start_method, w))
    parent.start()
    w.close()
    sibling, timed_out, watching = sorted(r.recv() for _ in range(3))  # in any order
    assert sibling[0] == "sibling"
    try:
        assert timed_out == ("timed out", True)
        assert watching[0] == "watching" and watching[2:] == (True, parent.pid)
        parent.kill()
        parent.join()
        assert r.poll(10)
        assert r.recv() == ("over", False)
    finally:
        os.kill(sibling[1], signal.SIGKILL)


# --- what is left behind ------------------------------------------------------------------------

MANY = {"fork": 200, "forkserver": 200, "spawn": 20}


@pytest.mark.watchdog(240)
def test_many_processes_leave_no_descriptor_and_no_zombie(ctx, start_method):
    def start():
        p = ctx.Process(target=targets.nothing)
        p.start()
        return p

    start().join()  # what is started once: the fork server, the tracker
    before = open_fds()
    for _ in range(MANY[start_method] // 10):
        batch = [start() for _ in range(10)]
        for p in batch:
            p.join()
            assert p.exitcode == 0
        assert len(open_fds()) > len(before)  # the sentinels of this batch are still usable
        del p, batch
    assert open_fds() == before
    assert zombies() == []
    assert fastmp.active_children() == []


def test_more_processes_than_cores_at_the_same_time(held):
    processes = [held() for _ in range(4 * os.cpu_count() + 3)]
    assert all(p.is_alive() for p, _ in processes)
    assert len({p.pid for p, _ in processes}) == len(processes)
    assert {p for p, _ in processes} <= set(fastmp.active_children())
    for _, conn in processes:
        conn.close()
    for p, _ in processes:
        p.join()
        assert p.exitcode == 0


def test_close_gives_the_descriptors_back(ctx):
    for _ in range(2):  # the first time brings the fork server
        before = open_fds()
        p = ctx.Process(target=targets.nothing)
        p.start()
        p.join()
        assert callable(p._popen.finalizer)  # as the stdlib's
        p.close()
    assert open_fds() == before


def test_descriptors_are_closed_at_exec(held):
    p, _ = held()
    handle = p._popen
    for fd in {handle.sentinel, handle.pidfd}:
        assert fd >= 0 and not os.get_inheritable(fd)


def test_a_process_that_cannot_be_pickled_leaves_nothing(ctx, start_method):
    if start_method == "fork":
        pytest.skip("fork pickles nothing")
    p = ctx.Process(target=targets.nothing)
    p.start()
    p.join()
    before = open_fds()
    for _ in range(3):
        with pytest.raises(Exception, match="pickle"):
            ctx.Process(target=targets.nothing, args=(lambda: None,)).start()
    assert open_fds() == before
    assert fastmp.active_children() == []


def tell_tracker(writer):
    writer.send(os.fstat(resource_tracker.getfd()).st_ino)


def test_a_forked_child_shares_its_parents_resource_tracker():
    """3.14 closes the descriptor in what it does not know to be multiprocessing's own fork."""
    resource_tracker.ensure_running()
    inode = os.fstat(resource_tracker.getfd()).st_ino
    reader, writer = fastmp.Pipe(False)
    p = fastmp.get_context("fork").Process(target=tell_tracker, args=(writer,))
    p.start()
    assert reader.recv() == inode
    p.join()


@pytest.mark.parametrize("size", [10, 10**6])
def test_a_spawned_child_that_never_reads(size):
    """The executable ends at once: start() returns, whatever there was to send, and so does join().

    (With much to send the stdlib waits for ever: it holds the reading end itself.)
    """
    before = open_fds()
    ctx = fastmp.get_context("spawn")
    spawn.set_executable("/bin/false")
    try:
        p = ctx.Process(target=targets.nothing, args=(b"x" * size,))
        p.start()
    finally:
        spawn.set_executable(sys.executable)
    p.join()
    assert p.exitcode == 1
    p.close()
    assert open_fds().keys() - before.keys() <= {str(resource_tracker._resource_tracker._fd)}


@pytest.mark.parametrize("free", range(5))
def test_no_descriptor_left_to_start_with(tmp_path, start_method, free):
    """With few descriptors left, start() works or is an OSError, and nothing stays behind.

    But what the stdlib leaves behind itself, when it asks the fork server with too few of them.
    """
    body = f"""
        import errno, resource

        def descriptors():
            return len(os.listdir("/proc/self/fd"))

        if __name__ == "__main__":
            ctx = mp.get_context(sys.argv[1])
            p = ctx.Process(target=str)
            p.start()
            p.join()
            p.close()
            before = descriptors()
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, limit[1]))
            fillers = []
            try:
                while True:
                    fillers.append(os.dup(0))
            except OSError:
                pass
            for _ in range({free}):
                os.close(fillers.pop())
            p = ctx.Process(target=str)
            try:
                p.start()
                p.join()
                result = "exit code %s" % p.exitcode
            except OSError as e:
                result = errno.errorcode.get(e.errno)
            del p
            for fd in fillers:
                os.close(fd)
            left = descriptors() - before
            children = complaint(os.waitpid, -1, os.WNOHANG)
            print([result, left, mp.active_children(), children])
        """
    results = []
    for module in ("fastmp", "multiprocessing"):
        code, out, errors = run_script(tmp_path / "script.py", module, body, start_method)
        assert code == 0, errors
        results.append(eval(out))
    (result, left, active, children), (_, left_by_stdlib, _, _) = results
    assert result == "exit code 0" if free > 4 else result in ("EMFILE", "exit code 0")
    assert result == "EMFILE" or free
    assert left <= (left_by_stdlib if start_method == "forkserver" else 0)
    assert active == []
    assert start_method != "fork" or "ChildProcessError" in children


# --- raw forks ----------------------------------------------------------------------------------


def test_a_raw_fork_has_sane_objects(held):
    """A child made by os.fork() sees a process that is not its own, and has its own ones."""
    p, conn = held()
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            says = [p.exitcode, "unknown" in repr(p), p._popen.poll(), p._popen.wait(0)]
            try:
                p.join()
            except AssertionError as e:
                says.append(str(e))
            mine = fastmp.get_context("fork").Process(target=targets.leave, args=(3,))
            mine.start()
            mine.join()
            says.append(mine.exitcode)
            mine.close()
            del p
            os.write(w, repr(says).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(w)
    with os.fdopen(r) as file:
        assert file.read() == "[None, True, None, None, 'can only join a child process', 3]"
    assert p.is_alive()
    conn.close()
    p.join()
    assert p.exitcode == 0


def test_an_inherited_process_object_can_end_its_process(held):
    p, _ = held()
    pid = os.fork()
    if pid == 0:
        try:
            p.terminate()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    p.join()
    assert p.exitcode == -signal.SIGTERM


def test_forks_in_many_threads(ctx, start_method):
    """Processes started side by side by several threads; each gets its own exit code."""
    codes = {}

    def work(base):
        for code in range(base, base + 4):
            p = ctx.Process(target=targets.leave, args=(code,))
            p.start()
            p.join()
            codes[code] = p.exitcode

    threads = [threading.Thread(target=work, args=(base,)) for base in (10, 20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == {code: code for base in (10, 20, 30) for code in range(base, base + 4)}
