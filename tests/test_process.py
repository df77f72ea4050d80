"""Process: what it does is what the stdlib's does, shown by running the same script on both.

Waiting, signals, and what is loaded have files of their own: test_process_wait.py,
test_process_signals.py, test_process_loading.py.
"""

import sys

import pytest

from tests.support.same import run_script


def test_exit_codes(same):
    out = same(
        """
        def fail(): raise ValueError("a failure")
        def die(signum): os.kill(os.getpid(), signum); time.sleep(60)
        def fail_late(): threading.Thread(target=time.sleep, args=(0.05,)).start()

        CASES = [(str,), (sys.exit,), (sys.exit, 0), (sys.exit, 3), (sys.exit, -1), (sys.exit, 256),
                 (sys.exit, None), (sys.exit, True), (sys.exit, "a text"), (sys.exit, (1, 2)),
                 (fail,), (os._exit, 5), (os.abort,), (die, 9), (die, 15), (die, 10), (fail_late,)]

        if __name__ == "__main__":
            ctx = mp.get_context(sys.argv[1])
            for target, *args in CASES:
                p = ctx.Process(target=target, args=args, name="child")
                p.start()
                p.join()
                say(target.__name__, args, p.exitcode, p)
        """
    )
    assert "fail [] 1 " in out and "die [9] -9 " in out and "exit [3] 3 " in out
    assert len(out.splitlines()) == 17


def test_states_and_attributes(same):
    out = same(
        """
        if __name__ == "__main__":
            ctx = mp.get_context(sys.argv[1])
            p = ctx.Process(target=len, args=([1, 2],), name="named", daemon=True)
            p.name = "renamed"
            p.authkey = b"secret"
            say("join before start", complaint(p.join))
            say(p, p.pid, p.exitcode, p.is_alive(), complaint(lambda: p.sentinel))
            say(p in mp.active_children(), complaint(p.terminate), complaint(p.run))
            p.start()
            say(p.pid == p.ident == p._popen.pid, type(p.sentinel), p.name, p.daemon, p.authkey)
            say("daemon while it runs", complaint(setattr, p, "daemon", False))
            say("second start", complaint(p.start))
            p.join()
            say(p, p.exitcode, p.is_alive(), p in mp.active_children(), p.join(), p.join(0))
            say("third start", complaint(p.start))
            say(p.terminate(), p.kill(), p.exitcode)
            p.close()
            say(p, p.close())
            for name in ("pid", "ident", "exitcode", "sentinel"):
                say(name, "after close", complaint(getattr, p, name))
            for name in ("start", "join", "is_alive", "terminate", "kill"):
                say(name, "after close", complaint(getattr(p, name)))
            say(complaint(ctx.Process, "a group"), complaint(setattr, p, "name", 5))
            say(complaint(ctx.Process, target=str, args=5), complaint(ctx.Process, daemon=[]))
            fresh = ctx.Process()
            say(fresh.close(), complaint(fresh.start), fresh)
        """
    )
    assert "second start AssertionError: cannot start a process twice" in out
    assert "start after close ValueError: process object is closed" in out


def test_misuse(same):
    same(
        """
        def in_a_child(method, daemon):
            ctx = mp.get_context(method)
            child = ctx.Process(target=str)
            say("child of a child, daemon", daemon, complaint(child.start))
            if not daemon:
                child.join()
                say(child)

        def with_the_parents(p):
            for name in ("start", "join", "is_alive"):
                say(name, complaint(getattr(p, name)))
            say(p, p.exitcode)

        if __name__ == "__main__":
            ctx = mp.get_context(sys.argv[1])
            p = ctx.Process(target=time.sleep, args=(60,))
            p.start()
            say("close", complaint(p.close))
            if sys.argv[1] == "fork":
                q = ctx.Process(target=with_the_parents, args=(p,))
                q.start()
                q.join()
            p.kill()
            p.join()
            for daemon in (False, True):
                q = ctx.Process(target=in_a_child, args=(sys.argv[1], daemon), daemon=daemon)
                q.start()
                q.join()
                say(q.exitcode)
            if sys.argv[1] != "fork":
                unpicklable = ctx.Process(target=lambda: None)
                say(complaint(unpicklable.start).split(":")[0], unpicklable)
                say(unpicklable in mp.active_children())
        """
    )


def test_inside_a_child(same):
    out = same(
        """
        def look(authkey, parent_pid):
            me, parent = mp.current_process(), mp.parent_process()
            say(me.name, me.daemon, me.authkey == authkey, me.pid == os.getpid(), me.exitcode)
            say(me, me.is_alive(), mp.active_children())
            say(parent.name, parent.pid == parent_pid, parent.is_alive(), parent)
            say(complaint(parent.join, 0.01), complaint(lambda: parent.sentinel >= 0))
            main_thread = threading.main_thread()
            say(repr(sys.stdin.read()), main_thread.native_id == threading.get_native_id())
            say(mp.get_start_method(), os.environ["X"], [t.name for t in threading.enumerate()])

        if __name__ == "__main__":
            mp.set_start_method(sys.argv[1])
            os.environ["X"] = "here"
            say(mp.parent_process(), mp.current_process().name, mp.current_process())
            p = mp.Process(target=look, args=(bytes(mp.current_process().authkey), os.getpid()),
                           name="a child")
            p.start()
            p.join()
            say(p)
        """
    )
    assert "a child False True True None" in out and "MainProcess True True" in out


def test_subclasses(same):
    out = same(
        """
        class Adder(mp.Process):
            def __init__(self, a, b):
                super().__init__()
                self.a, self.b = a, b

            def run(self):
                say(self.a + self.b, self.name)
                super().run()

        class Loud(mp.get_context(sys.argv[1]).Process):
            def _bootstrap(self, *args, **kwargs):
                say("bootstrap")
                return super()._bootstrap(*args, **kwargs)

        if __name__ == "__main__":
            mp.set_start_method(sys.argv[1])
            for p in Adder(2, 3), Loud(target=say, args=("run",), kwargs={}):
                p.start()
                p.join()
                say(p)
        """
    )
    assert "5 Adder-1" in out and "bootstrap\nrun\n" in out


def test_flush_and_exit_handlers(same):
    """Nothing is printed twice; the finalizers and atexit handlers that the Python runs, run."""
    out = same(
        """
        import atexit

        def work():
            from multiprocessing import util
            atexit.register(say, "atexit of the child")
            util.Finalize(None, say, args=("a finalizer",), exitpriority=5)
            threading.Thread(target=lambda: (time.sleep(1), say("a thread"))).start()
            sys.stdout.write("buffered in the child")

        if __name__ == "__main__":
            ctx = mp.get_context(sys.argv[1])
            sys.stdout.write("buffered in the parent. ")
            atexit.register(say, "atexit of the parent")
            p = ctx.Process(target=work)
            p.start()
            p.join()
            say(p.exitcode)
        """
    )
    assert out.count("buffered in the parent") == 1 and "a thread" in out and "a finalizer" in out
    if sys.version_info >= (3, 13):
        assert "atexit of the child" in out


def test_the_end_of_the_parent(same):
    """At exit a daemon is terminated and any other child is joined, also one of a child."""
    out = same(
        """
        def work(method, depth):
            if depth:
                ctx = mp.get_context(method)
                ctx.Process(target=work, args=(method, depth - 1)).start()
            time.sleep(0.1)
            say("work done at depth", depth)

        def daemon(ready):
            signal.signal(signal.SIGTERM, lambda *a: (say("daemon terminated"), os._exit(1)))
            ready.send("daemon runs")
            for _ in range(600):  # a signal just before the sleep is noticed only after it
                time.sleep(0.1)
            say("never")

        if __name__ == "__main__":
            ctx = mp.get_context(sys.argv[1])
            r, w = ctx.Pipe(False)
            ctx.Process(target=daemon, args=(w,), daemon=True).start()
            say(r.recv())
            ctx.Process(target=work, args=(sys.argv[1], 1)).start()
            say("the end")
        """,
        ordered=False,
    )
    assert out.splitlines() == [
        "daemon runs",
        "daemon terminated",
        "the end",
        "work done at depth 0",
        "work done at depth 1",
    ]


def test_broken_standard_streams(same):
    same(
        """
        import io

        def work(): say("works")

        if __name__ == "__main__":
            ctx = mp.get_context(sys.argv[1])
            closed = io.StringIO()
            closed.close()
            for stream in closed, None:
                for name in "stdout", "stderr", "stdin":
                    kept = getattr(sys, name)
                    setattr(sys, name, stream)
                    p = ctx.Process(target=work)
                    p.start()
                    p.join()
                    setattr(sys, name, kept)
                    say(name, p.exitcode)
            sys.stdin.detach()
            p = ctx.Process(target=work)
            p.start()
            p.join()
            say(p.exitcode)
        """
    )


def test_the_childs_standard_input(same):
    """It is /dev/null, for everybody who may ask, and a new one in a child's child."""
    same(
        """
        import io, select, subprocess

        def look(depth):
            old = sys.__stdin__
            layers = old, old.buffer, old.buffer.raw
            say([layer.closed and complaint(layer.read) for layer in layers])
            stdin = sys.stdin
            say(type(stdin), type(stdin.buffer), stdin.encoding, stdin.errors, stdin.mode)
            say(stdin.closed, stdin.readable(), stdin.writable(), stdin.isatty())
            say(complaint(input), [stdin.read(), stdin.read(5), stdin.readline(), list(stdin)])
            say(stdin.buffer.read(3), stdin.buffer.peek(), complaint(stdin.write, "x"))
            say(stdin.fileno() >= 3, stdin.fileno() == stdin.buffer.raw.fileno() == stdin.name)
            say(os.path.samestat(os.fstat(stdin.fileno()), os.stat(os.devnull)))
            say(select.select([stdin], [], [], 5)[0] == [stdin], os.read(stdin.fileno(), 1))
            say(subprocess.run(["cat"], stdin=stdin, capture_output=True))
            if depth:
                p = mp.get_context("fork").Process(target=look, args=(depth - 1,))
                p.start()
                p.join()
                say(p.exitcode, stdin.closed, sys.stdin is stdin)
            stdin.close()
            say(complaint(stdin.fileno), complaint(stdin.read), stdin.closed)
            p = mp.get_context("fork").Process(target=say, args=("after a close",))
            p.start()
            p.join()
            sys.stdin = io.StringIO("yet another")
            p = mp.get_context("fork").Process(target=lambda: say([sys.stdin.read()]))
            p.start()
            p.join()

        if __name__ == "__main__":
            for stdin in sys.stdin, io.StringIO("some text"):
                sys.stdin = stdin
                p = mp.get_context(sys.argv[1]).Process(target=look, args=(1,))
                p.start()
                p.join()
                say(p.exitcode, stdin.closed)
        """
    )


def test_threads_start_processes_of_several_kinds(tmp_path):
    """What one child needs is not what was made ready for another.

    In the stdlib's processes one or the other ends as None, as its threads take each other's codes.
    """
    body = """
        ctx = mp.get_context("fork")

        class Hooked(ctx.Process):
            def _after_fork(self):
                super()._after_fork()
                self.hooked = True

        class Booted(ctx.Process):
            def _bootstrap(self, *args, **kwargs):
                self.booted = True
                return super()._bootstrap(*args, **kwargs)

        def look():
            p = mp.current_process()
            right = {
                Hooked: vars(p).get("hooked"), Booted: vars(p).get("booted"),
                ctx.Process: not vars(p).get("hooked") and not vars(p).get("booted"),
                mp.Process: mp.get_start_method() == "fork",
            }
            sys.exit(3 if right[type(p)] and mp.parent_process().pid == os.getppid() else 4)

        def start(kind, codes):
            for _ in range(20):
                p = kind(target=look)
                p.start()
                p.join()
                codes.append(p.exitcode)

        if __name__ == "__main__":
            mp.set_start_method("fork")
            codes = []
            kinds = Hooked, Booted, ctx.Process, mp.Process
            threads = [threading.Thread(target=start, args=(kind, codes)) for kind in kinds]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            say(codes == [3] * 80, codes)
        """
    code, out, errors = run_script(tmp_path / "script.py", "fastmp", body, "fork")
    assert (code, out.split(" ", 1)[0]) == (0, "True"), (out, errors)


def test_the_childs_log(same):
    out = same(
        """
        def work():
            mp.get_logger().info("working")

        if __name__ == "__main__":
            mp.log_to_stderr(10 if sys.argv[1] == "fork" else 20)
            p = mp.get_context(sys.argv[1]).Process(target=work, name="child")
            p.start()
            p.join()
        """,
        ordered=False,
    )
    assert out == ""  # it all goes to stderr, which is compared


EXIT_HANDLERS = {
    "none": "",
    "one": "atexit.register(say, 'mine')",
    "one instead of the stdlib's": "atexit.unregister(util._exit_function); "
    "atexit.register(say, 'mine')",
    "no handler at all": "atexit.unregister(util._exit_function); "
    "util.Finalize(None, say, args=('not finalized since 3.13',), exitpriority=1)",
    "a logger made late": "atexit.register(say, 'before'); mp.get_logger(); "
    "atexit.register(say, 'after')",
    "another exit function": "util._exit_function = lambda: say('replaced')",
    "a finalizer without priority": "keep = Object(); util.Finalize(keep, say, args=('never',))",
    "a running child": "p = mp.get_context('fork').Process(target=nap); p.start(); "
    "atexit.register(say, 'before the child is joined')",
    "a daemon": "mp.get_context('fork').Process(target=time.sleep, args=(60,), daemon=True)"
    ".start()",
    "an error": "atexit.register(int, 'x')",
}


def test_exit_handlers_of_a_child(same):
    same(
        f"""
        import atexit
        from multiprocessing import util

        class Object:
            pass

        def nap():
            time.sleep(1)
            say("the child's child ends")

        def work(source):
            exec(source, globals())

        if __name__ == "__main__":
            atexit.register(say, "the parent's")
            for name, source in {EXIT_HANDLERS!r}.items():
                say(name)
                p = mp.get_context(sys.argv[1]).Process(target=work, args=(source,))
                p.start()
                p.join()
                say(p.exitcode)
        """
    )


def test_a_bootstrap_that_a_tool_has_replaced_is_called(same):
    """coverage and others put their own function in the place of BaseProcess._bootstrap."""
    out = same(
        """
        from multiprocessing import process

        original = process.BaseProcess._bootstrap

        def replaced(self, *args, **kwargs):
            say("replaced")
            return original(self, *args, **kwargs)

        process.BaseProcess._bootstrap = replaced

        if __name__ == "__main__":
            mp.set_start_method(sys.argv[1])
            for late in False, True:
                p = mp.Process(target=say, args=("run",))
                p.start()
                p.join()
        """
    )
    assert out == "replaced\nrun\nreplaced\nrun"


def test_a_hook_after_the_fork_is_called(same):
    same(
        """
        from multiprocessing import util

        class Hooked(mp.Process):
            @staticmethod
            def _after_fork():
                say("hook")
                mp.Process._after_fork()

        class Object:
            pass

        def work(*objects):
            say("run", len(objects))

        if __name__ == "__main__":
            mp.set_start_method(sys.argv[1])
            first, second = Object(), Object()
            util.register_after_fork(first, lambda o: say("after fork", o is first))
            util.register_after_fork(second, lambda o: 1 / 0)
            for cls in Hooked, mp.Process:
                p = cls(target=work)
                p.start()
                p.join()
                say(p.exitcode)
        """
    )


def test_fork_warns_of_threads_as_the_stdlib_does(tmp_path):
    body = """
        import warnings
        if __name__ == "__main__":
            go_on = threading.Event()
            threading.Thread(target=go_on.wait).start()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                p = mp.get_context("fork").Process(target=str)
                p.start()
                p.join()
            go_on.set()
            say(p.exitcode)
            for w in caught:
                say(w.category.__name__, str(w.message).split("pid=")[0])
        """
    results = [
        run_script(tmp_path / "script.py", module, body, "fork")
        for module in ("multiprocessing", "fastmp")
    ]
    assert results[0] == results[1]
    assert ("DeprecationWarning" in results[1][1]) == (sys.version_info >= (3, 12))


def test_the_order_of_exit_handlers(same):
    """What a child registers runs before the stdlib's exit function, whenever that was loaded."""
    same(
        """
        import atexit

        if __name__ != "__main__":
            atexit.register(say, "registered by the main module")

        def work(wants_finalizer):
            atexit.register(say, "registered by the target")
            if wants_finalizer:
                from multiprocessing import util
                util.Finalize(None, say, args=("a finalizer",), exitpriority=1)
                atexit.register(say, "registered last")
                if wants_finalizer > 1:
                    atexit.unregister(util._exit_function)

        if __name__ == "__main__":
            for wants_finalizer in 0, 1, 2:
                p = mp.get_context(sys.argv[1]).Process(target=work, args=(wants_finalizer,))
                p.start()
                p.join()
                say(p.exitcode)
        """
    )


@pytest.mark.parametrize("daemon", [False, True])
def test_a_process_that_is_left_at_exit(same, daemon):
    """It is waited for, or terminated, between what was registered after and before Event()."""
    same(
        f"""
        import atexit

        def work(begun, go_on):
            begun.set()
            go_on.wait(60)
            say("the child ends")

        if __name__ == "__main__":
            atexit.register(lambda: say("registered first", p.is_alive(), p.exitcode))
            begun, go_on = mp.Event(), mp.Event()
            p = mp.Process(target=work, args=(begun, go_on), daemon={daemon})
            p.start()
            begun.wait(60)
            if not {daemon}:
                atexit.register(go_on.set)
            atexit.register(lambda: say("registered last", p.is_alive()))
        """
    )


def test_threads_are_gone_after_a_fork(same):
    """Whether there were any before, or a signal's handler starts one at the last moment."""
    same(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        go_on = threading.Event()

        def look():
            say([t.name for t in threading.enumerate()], len(threading._dangling))
            with threading._active_limbo_lock:
                say(threading.main_thread() is threading.current_thread())
            t = threading.Thread(target=say, args=("a thread runs",))
            t.start()
            t.join()

        def start(name):
            threading.Thread(target=go_on.wait, name=name).start()

        def late_fork(fork=os.fork):
            start("late")
            return fork()

        def start_one():
            p = mp.get_context("fork").Process(target=look)
            p.start()
            p.join()
            say(p.exitcode, threading.active_count())

        if __name__ == "__main__":
            start_one()
            unstarted = threading.Thread()
            start_one()
            os.fork = late_fork
            start_one()
            start("early")
            start_one()
            go_on.set()
        """
    )
