"""Processes and signals: to them, to whoever waits for them, and others who reap children."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import fastmp
from tests.support import process_targets as targets
from tests.support.same import ROOT, run_script

# Refuses pidfd_open like a kernel that has never heard of it, and like a sandbox does.
WITHOUT_PIDFD = """
import ctypes, errno, os, struct
def refuse_pidfd(error):
    # load the number; if it is pidfd_open (434 everywhere) return the error, else allow.
    words = [(0x20, 0, 0, 0), (0x15, 0, 1, 434), (0x06, 0, 0, 0x00050000 | error),
             (0x06, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *w) for w in words))
    program = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(words), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for args in (38, 1, 0, 0, 0), (22, 2, program, 0, 0):  # no new privileges; seccomp filter
        if libc.prctl(*args) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as e:
        assert e.errno == error
    else:
        raise AssertionError("pidfd_open still works")
"""


@pytest.fixture
def sleeper(ctx):
    """A process that sleeps long."""
    p = ctx.Process(target=time.sleep, args=(60,))
    p.start()
    yield p
    p.kill()
    p.join()


@contextlib.contextmanager
def handler(signum, action):
    old = signal.signal(signum, action)
    try:
        yield
    finally:
        signal.signal(signum, old)


# --- to the process -----------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["terminate", "kill"])
def test_ended_by(sleeper, way):
    assert getattr(sleeper, way)() is None
    sleeper.join()
    expected = signal.SIGTERM if way == "terminate" else signal.SIGKILL
    assert sleeper.exitcode == -expected
    assert f"exitcode=-{expected.name}" in repr(sleeper)
    assert getattr(sleeper, way)() is None  # again, after the end


def test_interrupt(ctx, start_method, capfd):
    """A KeyboardInterrupt in the process, on every version."""
    r, w = ctx.Pipe(False)
    p = ctx.Process(target=targets.say_and_sleep, args=(w,))
    p.start()
    assert r.recv() == "ready"
    p.interrupt()
    p.join()
    assert p.exitcode == 1
    if start_method != "forkserver":  # which writes where the server did when it was started
        assert "KeyboardInterrupt" in capfd.readouterr().err
    p.interrupt()
    p.close()
    with pytest.raises(ValueError, match="process object is closed"):
        p.interrupt()


def test_a_signal_goes_to_nobody_else(sleeper):
    """When the child has been waited for its pid may be another's: then nobody gets the signal."""
    victim = subprocess.Popen(["sleep", "60"])
    handle = sleeper._popen
    try:
        assert handle.pidfd >= 0
        sleeper.kill()
        while os.path.exists(f"/proc/{sleeper.pid}/stat"):  # waited for behind the handle's back
            with contextlib.suppress(ChildProcessError):  # (a fork server does it itself)
                os.waitpid(sleeper.pid, 0)
        assert handle.returncode is None
        handle.pid = victim.pid  # as if the kernel had given the number away
        for way in handle.terminate, handle.kill, handle.interrupt:
            way()
        with pytest.raises(subprocess.TimeoutExpired):
            victim.wait(0.3)
    finally:
        victim.kill()
        victim.wait()
        # Nobody can tell the exit code any more; without one it would count as alive for ever.
        handle.returncode = -signal.SIGKILL


def test_a_signal_before_the_launch():
    handle = fastmp._core.Popen()
    for way in handle.terminate, handle.kill, handle.interrupt:
        with pytest.raises(AttributeError, match="pid"):
            way()  # and not to this process's group


def test_a_signal_that_is_not_allowed(ctx, sleeper):
    with pytest.raises(OSError, match="send a signal"):
        sleeper._popen._send_signal(1000)
    with pytest.raises(TypeError):
        sleeper._popen._send_signal("SIGTERM")
    assert sleeper.is_alive()


# --- to whoever waits ---------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, 50])
def test_keyboard_interrupt_ends_a_join(sleeper, timeout):
    with handler(signal.SIGINT, signal.default_int_handler):
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            sleeper.join(timeout)
        timer.join()
    assert sleeper.is_alive() and sleeper in fastmp.active_children()
    sleeper.terminate()
    sleeper.join()
    assert sleeper.exitcode == -signal.SIGTERM


def test_a_handler_that_returns_does_not_end_a_join(sleeper):
    calls = []
    with handler(signal.SIGALRM, lambda *_: calls.append(time.monotonic())):
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        try:
            before = time.monotonic()
            sleeper.join(1.5)
            took = time.monotonic() - before
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    assert sleeper.is_alive()
    assert len(calls) >= 5 and took >= 1.499


# --- others who reap ----------------------------------------------------------------------------


def test_a_handler_of_sigchld(same):
    """It is called; one that reaps every child may take the exit code away, but join() returns."""
    same(
        """
        if __name__ == "__main__":
            ctx = mp.get_context(sys.argv[1])
            calls = []
            signal.signal(signal.SIGCHLD, lambda *_: calls.append(1))
            p = ctx.Process(target=sys.exit, args=(3,))
            p.start()
            p.join()
            say(p.exitcode, bool(calls) or sys.argv[1] == "forkserver")

            def reap(*_):
                try:
                    while os.waitpid(-1, os.WNOHANG)[0]:
                        pass
                except ChildProcessError:
                    pass

            if sys.argv[1] == "fork":
                signal.signal(signal.SIGCHLD, reap)
                p = ctx.Process(target=sys.exit, args=(3,))
                p.start()
                p.join()
                say(p.exitcode in (3, None), p.terminate(), p.kill())
        """
    )


def test_waitpid_of_the_user(same):
    same(
        """
        if __name__ == "__main__":
            ctx = mp.get_context(sys.argv[1])
            p = ctx.Process(target=sys.exit, args=(3,))
            p.start()
            if sys.argv[1] != "forkserver":
                pid, status = os.waitpid(p.pid, 0)
                say(pid == p.pid, os.waitstatus_to_exitcode(status))
            p.join()
            say(p.exitcode, p.is_alive())
            p.join(1)
            say(complaint(p.close), p.kill())
        """
    )


def test_sigchld_ignored(same):
    """The kernel then reaps; join() still waits for the end."""
    same(
        """
        if __name__ == "__main__":
            ctx = mp.get_context(sys.argv[1])
            p = ctx.Process(target=str)
            p.start()
            p.join()
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            for target in (time.sleep, 0.3), (str, ""):
                p = ctx.Process(target=target[0], args=target[1:])
                before = time.monotonic()
                p.start()
                p.join()
                say(p.exitcode, time.monotonic() - before > 0.3 or target[0] is str)
                p.join(1)
                say(p.exitcode, p.kill())
        """
    )


# --- without pidfds -----------------------------------------------------------------------------


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
@pytest.mark.needs_tick
def test_without_pidfds(tmp_path, start_method, error):
    body = (
        WITHOUT_PIDFD
        + f"ERROR = errno.{error}\n"
        + """
def look(out):
    parent = mp.parent_process()
    out.send((parent.is_alive(), parent.pid))
    parent.join(0.05)
    out.send(parent.is_alive())
    parent.join(20)
    out.send(parent.is_alive())

def start_one_and_sleep(method, out):
    mp.get_context(method).Process(target=look, args=(out,)).start()
    time.sleep(60)

if __name__ == "__main__":
    refuse_pidfd(ERROR)
    ctx = mp.get_context(sys.argv[1])
    before = len(os.listdir("/proc/self/fd"))
    for target, *args in (str,), (sys.exit, 5), (os.abort,):
        p = ctx.Process(target=target, args=args)
        p.start()
        assert p._popen.pidfd == -1
        p.join()
        say(p.exitcode, p._popen.poll())
        p.join(0)
        p.close()

    p = ctx.Process(target=time.sleep, args=(60,))
    p.start()
    start = time.monotonic()
    p.join(0.2)
    say(0.19 < time.monotonic() - start < 10, p.is_alive(), p.exitcode)
    seen = []
    threads = [threading.Thread(target=lambda: (p.join(), seen.append(p.exitcode)))
               for _ in range(4)]
    for thread in threads:
        thread.start()
    p.terminate()
    for thread in threads:
        thread.join()
    say(seen)
    p.close()

    p = ctx.Process(target=time.sleep, args=(60,))
    p.start()
    p.kill()
    if sys.argv[1] != "forkserver":
        os.waitpid(p.pid, 0)
        real, p._popen.pid = p._popen.pid, os.getppid()  # nobody's child of ours
        say(p.terminate(), p._popen.pid != real)
    p.join()
    say(p.exitcode)
    del p

    r, w = ctx.Pipe(False)
    p = ctx.Process(target=start_one_and_sleep, args=(sys.argv[1], w))
    p.start()
    w.close()
    say(r.recv() == (True, p.pid), r.recv())
    p.kill()
    p.join()
    say(r.poll(20) and r.recv())
    r.close()
    p.close()
"""
    )
    code, out, errors = run_script(tmp_path / "script.py", "fastmp", body, start_method)
    assert code == 0, errors
    expected = ["0 0", "5 5", "-6 -6", "True True None", "[-15, -15, -15, -15]"]
    expected += ["-9"] if start_method == "forkserver" else ["None True", "None"]
    assert out.splitlines() == [*expected, "True True", "False"]


@pytest.mark.needs_tick
def test_a_child_that_closes_everything_without_pidfds(tmp_path):
    """The pipe is at its end before the child is: joins wait for the child, without spinning."""
    body = (
        WITHOUT_PIDFD
        + """
def close_all():
    os.closerange(3, 100)
    time.sleep(2)
    os._exit(6)

if __name__ == "__main__":
    refuse_pidfd(errno.ENOSYS)
    p = mp.get_context("fork").Process(target=close_all)
    p.start()
    time.sleep(0.2)
    cpu = time.process_time()
    p.join(0.2)
    say(p.exitcode)
    p.join(30)
    say(p.exitcode, time.process_time() - cpu < 0.3)
"""
    )
    code, out, errors = run_script(tmp_path / "script.py", "fastmp", body, "fork")
    assert (code, out) == (0, "None\n6 True\n"), errors


# --- a child never returns into its parent's code -------------------------------------------------


def test_an_exit_handler_that_fails_does_not_let_the_child_go_on(tmp_path):
    body = """
        import atexit

        class Stop(BaseException):
            pass

        def work():
            from multiprocessing import util
            def fail():
                raise Stop
            atexit.register(fail)
            util.Finalize(None, fail, exitpriority=1)

        if __name__ == "__main__":
            p = mp.get_context("fork").Process(target=work)
            try:
                p.start()
            except BaseException:
                say("the child went on")
                raise
            p.join()
            say("parent", p.exitcode is not None)
        """
    code, out, errors = run_script(tmp_path / "script.py", "fastmp", body, "fork")
    assert (code, out) == (0, "parent True\n"), errors


def test_the_terminals_interrupt_reaches_parent_and_child(tmp_path, start_method):
    """^C: the group gets SIGINT, the parent's join raises, the child ends, nothing hangs."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time, fastmp as mp\n"
        "def work(out):\n    out.send(1)\n    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    ctx = mp.get_context(sys.argv[1])\n"
        "    r, w = ctx.Pipe(False)\n"
        "    p = ctx.Process(target=work, args=(w,))\n"
        "    p.start()\n    r.recv()\n"
        "    try:\n        print('ready', flush=True)\n        p.join()\n"
        "    except KeyboardInterrupt:\n        p.join()\n        print(p.exitcode)\n"
    )
    done = subprocess.Popen(
        [sys.executable, str(script), start_method],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert done.stdout.readline() == "ready\n"
    time.sleep(0.2)  # so that both sleep
    os.killpg(done.pid, signal.SIGINT)
    out, errors = done.communicate(timeout=30)
    assert (done.returncode, out) == (0, "1\n"), errors
    assert errors.count("KeyboardInterrupt") == 1
