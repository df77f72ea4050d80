"""The child that the fork server forks ahead: it is what one forked for its request is."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import fastmp
from fastmp import _spare, forkserver, process
from tests.support import census, procs
from tests.support import process_targets as targets
from tests.support.same import ROOT

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="whose server is the standard library's, loop and all"
)

TIMEOUT = 30
ctx = fastmp.get_context("forkserver")


class Server:
    """The fork server of this process; it writes its errors, and its children theirs, to a file."""

    def __init__(self, errors):
        self.stop()
        self._errors = errors
        kept = os.dup(2)
        try:
            with open(errors, "w") as file:
                os.dup2(file.fileno(), 2)
            forkserver.ensure_running()
        finally:
            os.dup2(kept, 2)
            os.close(kept)

    def errors(self):
        return self._errors.read_text()

    @property
    def pid(self):
        return forkserver._forkserver._forkserver_pid

    def spares(self):
        return [pid for pid in census.spares() if procs.runs(pid)]

    def spare(self):
        """The pid of its spare, once that is ready.

        A child that ends has closed its descriptors, and is no zombie yet: it does not sleep.
        """
        (pid,) = eventually(lambda: len(found := self._asleep()) == 1 and found)
        return pid

    def _asleep(self):
        found = [procs.read(pid) for pid in self.spares()]
        return [proc.pid for proc in found if proc is not None and proc.state == "S"]

    def stop(self):
        forkserver._forkserver._stop()


def eventually(function):
    """What *function* returns when that is true at last."""
    deadline = time.monotonic() + TIMEOUT
    while not (result := function()):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return result


def fds(pid):
    """What the descriptors of a process refer to, but for its standard streams."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            if int(name) > 2:
                found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            pass  # of the listing itself
    return found


def holds(pid, other, kind):
    """What of that kind both processes hold."""
    return {fd for fd in fds(pid) if fd.startswith(kind)} & set(fds(other))


@pytest.fixture
def fresh(tmp_path):
    """A server that has had no request."""
    server = Server(tmp_path / "errors")
    yield server
    server.stop()


@pytest.fixture
def server(fresh):
    """A server that has a spare."""
    run()
    fresh.spare()
    return fresh


def run(target=targets.nothing, args=(), **options):
    """Runs a process to its end; (its pid, its exit code)."""
    p = ctx.Process(target=target, args=args, **options)
    p.start()
    pid = p.pid
    p.join(TIMEOUT)
    code = p.exitcode
    p.close()
    return pid, code


def test_there_is_none_before_the_first_request(fresh):
    assert stays_without(fresh)
    pid, code = run()
    assert code == 0
    assert fresh.spare() != pid


def stays_without(server):
    """Whether the server has no spare, and has none after a while either."""
    time.sleep(0.3)
    return not server.spares()


def test_the_next_request_is_its(server):
    for code in 3, 4, 5:
        spare = server.spare()
        assert run(targets.exit_with, (code,)) == (spare, code)


def tell(conn, lock, queue, word, *, key):
    """Everything that a child may know of itself."""
    current = process.current_process()
    with lock:
        queue.put((word, key))
    conn.send(
        {
            "parent": (os.getppid(), process.parent_process().pid, process.parent_process().name),
            "name": current.name.rstrip("0123456789"),
            "daemon": current.daemon,
            "children": process.active_children(),
            "counter": next(process._process_counter),
            "handlers": [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGCHLD)],
            "wakeup fd": signal.set_wakeup_fd(-1),
            "stdin": sys.stdin.read(),
            "argv": sys.argv,
            "path": sys.path,
            "directory": os.getcwd(),
            "method": fastmp.get_start_method(),
            "main": sorted(name for name in sys.modules if "main__" in name),
            "modules": len(sys.modules),
            "threads": threading.active_count(),
            "descriptors": sorted(fd.partition(":")[0] for fd in fds("self")),
        }
    )


@pytest.mark.parametrize("daemon", [False, True])
def test_it_is_what_a_child_forked_for_its_request_is(fresh, daemon):
    lock, queue, seen = ctx.Lock(), ctx.Queue(), []
    for _ in range(4):
        reader, writer = ctx.Pipe(duplex=False)
        args, kwargs = (writer, lock, queue, "word"), {"key": b"value"}
        assert run(tell, args, kwargs=kwargs, daemon=daemon)[1] == 0
        seen.append(reader.recv())
        assert queue.get(timeout=TIMEOUT) == ("word", b"value")
        fresh.spare()
    assert seen[0]["parent"] == (fresh.pid, os.getpid(), process.current_process().name)
    assert "default_int_handler" in seen[0]["handlers"][0]
    assert seen[1:] == [seen[0]] * 3


def test_it_holds_nothing_of_a_clients_and_no_child_holds_its_socket(server):
    r, w = ctx.Pipe(duplex=False)
    p = ctx.Process(target=targets.wait_for_eof, args=(r,))
    p.start()
    try:
        spare = server.spare()
        assert not holds(spare, os.getpid(), "pipe:")
        assert not holds(spare, p.pid, "pipe:")
        assert not holds(spare, server.pid, "socket:")
        assert not holds(p.pid, server.pid, "socket:")
        assert len([fd for fd in fds(spare) if fd.startswith("socket:")]) == 1
    finally:
        r.close()
        w.close()
        p.join(TIMEOUT)
    assert p.exitcode == 0


def test_one_that_was_killed_is_forgotten(server):
    for _ in range(3):
        spare = server.spare()
        os.kill(spare, signal.SIGKILL)
        eventually(lambda spare=spare: procs.read(spare) is None)
        pid, code = run(targets.exit_with, (7,))
        assert pid != spare
        assert code == 7
    assert server.errors() == ""


def test_one_that_was_killed_but_not_reaped_is_no_child(server):
    spare = server.spare()
    os.kill(server.pid, signal.SIGSTOP)
    os.kill(spare, signal.SIGKILL)
    eventually(lambda: procs.read(spare).state == "Z")
    results = []
    thread = threading.Thread(target=lambda: results.append(run(targets.exit_with, (7,))))
    thread.start()
    time.sleep(0.1)  # the request waits beside the signal
    os.kill(server.pid, signal.SIGCONT)
    thread.join()
    ((pid, code),) = results
    assert pid != spare
    assert code == 7
    assert run()[1] == 0
    assert server.errors() == ""


def test_one_that_somebody_else_has_reaped_has_ended():
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    spare = _spare.Spare(pid, None)
    assert not spare.has_ended()
    os.close(writing)
    assert os.waitpid(pid, 0) == (pid, 0)
    assert spare.has_ended()


def start_in_stopped(spare):
    """A process that is handed to the spare, which is stopped and so does not read its request."""
    os.kill(spare, signal.SIGSTOP)
    eventually(lambda: procs.read(spare).state == "T")
    p = ctx.Process(target=targets.nothing)
    p.start()
    assert p.pid == spare
    return p


def test_one_that_is_killed_with_a_request_is_the_child_that_was_killed(server):
    p = start_in_stopped(server.spare())
    p.kill()
    p.join(TIMEOUT)
    assert p.exitcode == -signal.SIGKILL
    assert run()[1] == 0
    assert server.errors() == ""


def test_one_that_has_not_read_its_request_is_somebodys_process(server):
    before = census.take()
    p = start_in_stopped(server.spare())
    assert [left for left in census.leaks(before) if f"pid {p.pid} " in left]
    os.kill(p.pid, signal.SIGCONT)
    p.join(TIMEOUT)
    assert p.exitcode == 0


def test_it_ignores_an_interrupt_and_its_process_does_not(server):
    spare = server.spare()
    os.kill(spare, signal.SIGINT)
    assert run(targets.exit_with, (7,)) == (spare, 7)
    spare = server.spare()
    r, w = ctx.Pipe(duplex=False)
    p = ctx.Process(target=targets.say_and_sleep, args=(w,))
    p.start()
    assert r.recv() == "ready"
    assert p.pid == spare
    os.kill(spare, signal.SIGINT)
    p.join(TIMEOUT)
    assert p.exitcode == 1
    assert server.errors().count("KeyboardInterrupt") == 1


def test_it_ends_with_a_server_that_is_killed(server):
    spare = server.spare()
    killed = server.pid
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: not procs.runs(spare))
    eventually(lambda: not procs.runs(killed))  # or it could be asked, with its socket closed
    assert run(targets.exit_with, (7,))[1] == 7  # by another server
    assert server.errors() == ""


def test_it_is_gone_when_its_server_has_ended(server):
    spare = server.spare()
    server.stop()
    assert procs.read(spare) is None


def test_many_threads_start_processes(server):
    seen = []

    def start(number):
        for _ in range(15):
            seen.append(run(targets.exit_with, (number,)) + (number,))

    threads = [threading.Thread(target=start, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 75
    assert all(code == number for _, code, number in seen)
    server.spare()


# What a child finds, of a parent without a main module: nothing that was rehearsed (_spare.py).
FINDINGS = (
    """
    import sys, time
    from {module} import get_context
    look = """
    + repr("""
import sys
from multiprocessing import context, process
main = sys.modules["__main__"]
found = (
    sys.argv, sys.path, main.__name__, getattr(main, "__file__", None), "__spec__" in vars(main),
    "__mp_main__" in sys.modules, process.current_process().name, process.ORIGINAL_DIR,
    context._default_context._actual_context._name, sys.stdin.read(), sys.stdin.mode,
)
sys.__stdout__.write(repr(found) + chr(10))
""")
    + """
    for number in range(4):
        child = get_context("forkserver").Process(
            target=exec, args=(look, {{}}), name="P%d" % number
        )
        child.start()
        child.join()
        assert child.exitcode == 0
        time.sleep(0.3)  # a spare is ready
"""
)


def test_it_leaves_nothing_of_the_rehearsal(tmp_path):
    results = []
    for module in "multiprocessing", "fastmp":
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(FINDINGS.format(module=module)), "an argument"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert (done.returncode, done.stderr) == (0, "")
        results.append(done.stdout)
    assert results[0].count("P") >= 4
    assert results[1] == results[0]


def test_a_fork_that_fails_is_not_tried_again_before_the_next_request(monkeypatch):
    from fastmp import _served

    def fail():
        raise OSError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(_served, "fork", fail)
    server = object.__new__(_served._Server)
    server._spare, server._wants_spare = None, True
    server._fork_spare()
    assert server._spare is None
    assert not server._wants_spare


RESTLESS = """
    import threading, time
    state = []
    def change():
        while True:
            state.append(time.monotonic())
            time.sleep(0.01)
    threading.Thread(target=change, daemon=True).start()
"""


def test_there_is_none_where_threads_change_the_server(tmp_path, monkeypatch):
    (tmp_path / "restless.py").write_text(textwrap.dedent(RESTLESS))
    path = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{path}")
    monkeypatch.setattr(forkserver._forkserver, "_preload_modules", ["restless"])
    server = Server(tmp_path / "errors")
    try:
        assert run()[1] == 0
        assert stays_without(server)
        assert run()[1] == 0
    finally:
        server.stop()
