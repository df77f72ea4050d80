"""What starting a process loads, in the parent and in the child: modules, and the main module."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from tests.support.same import ROOT, run_script

MAINS = {
    "fine": "VALUE = __file__ == sys.argv[0], __package__, __spec__, type(__loader__), __doc__",
    "calls itself by name": "VALUE = sys.modules[__name__].__dict__ is globals()",
    "fails": "VALUE = 1 / (__name__ == '__main__')",
    "exits": "if __name__ != '__main__': sys.exit(3)",
    "starts processes": "if __name__ != '__main__': mp.get_context('spawn').Process().start()",
    "has a future": "VALUE = (lambda x: int).__annotations__",
}


def run_python(*arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_no_module_of_fastmp_is_loaded_needlessly(tmp_path):
    """Starting a process by fork brings neither the fork server nor spawn."""
    body = """
        if __name__ == "__main__":
            p = mp.get_context("fork").Process(target=str)
            p.start()
            p.join()
            say(sorted(m for m in sys.modules if "launch" in m or "popen" in m))
        """
    _, out, _ = run_script(tmp_path / "script.py", "fastmp", body, "fork")
    assert out == "['fastmp._std.popen_fork', 'fastmp.launch_fork', 'multiprocessing.popen_fork']\n"


@pytest.mark.parametrize("main", MAINS)
def test_the_main_module_in_a_child(same, main):
    """The parent's, run anew unless the child is a fork; its globals are those of its functions."""
    same(
        f"""
        {MAINS[main]}

        def work():
            names = [name for name in ("__main__", "__mp_main__") if name in sys.modules]
            say(__name__, names, sys.modules["__main__"] is sys.modules["__mp_main__"])
            say(VALUE, sys.modules["__main__"].VALUE, sys.argv[1:], sorted(globals()))

        if __name__ == "__main__":
            sys.stderr = None
            os.close(2)
            p = mp.get_context(sys.argv[1]).Process(target=work)
            p.start()
            p.join()
            say(p.exitcode)
        """
    )


def test_a_main_module_that_changes(same):
    """A child runs what the file holds at its start, also one of a server that knew it before."""
    out = same(
        """
        VALUE = "at first"

        def work():
            say(VALUE)

        if __name__ == "__main__":
            ctx = mp.get_context(sys.argv[1])
            for value in "then", "in the end":
                p = ctx.Process(target=work)
                p.start()
                p.join()
                with open(__file__) as file:
                    text = file.read()
                with open(__file__, "w") as file:
                    file.write(text.replace("VALUE =", f"VALUE = {value!r} or", 1))
            p = ctx.Process(target=work)
            p.start()
            p.join()
        """
    )
    assert out.startswith("at first")


def test_a_spawned_child_loads_what_it_needs(tmp_path):
    """And what it does not need, only when somebody asks for it."""
    body = """
        HEAVY = "enum", "pickle", "runpy", "selectors", "socket", "subprocess"

        def work():
            say([name for name in HEAVY if name in sys.modules])
            from multiprocessing import reduction, resource_tracker, util
            say([name for name in HEAVY if name in sys.modules])
            say(util.Finalize.__name__, "subprocess" in sys.modules, "socket" in sys.modules)
            say(reduction.ForkingPickler.__name__, "socket" in sys.modules)
            say(resource_tracker._resource_tracker._fd > 2, mp.parent_process().is_alive())

        if __name__ == "__main__":
            p = mp.get_context("spawn").Process(target=work)
            p.start()
            p.join()
        """
    code, out, errors = run_script(tmp_path / "script.py", "fastmp", body, "spawn")
    assert (code, errors) == (0, "")
    assert out.splitlines() == [
        "[]",
        "[]",
        "Finalize True False",
        "ForkingPickler True",
        "True True",
    ]


def test_what_the_arguments_of_a_spawned_child_do_not_load(tmp_path):
    """Nor does their use: enum would come with socket, locale with subprocess, re with pickle."""
    body = """
        def work(queue, simple, end, value, lock, event):
            with lock:
                value.value += 1
            queue.put(simple.get())
            end.send([1, "two"])
            event.set()
            print([name for name in ("enum", "locale", "re") if name in sys.modules])

        if __name__ == "__main__":
            ctx = mp.get_context("spawn")
            queue, simple, value = ctx.Queue(), ctx.SimpleQueue(), ctx.Value("i", 4)
            (here, there), lock, event = ctx.Pipe(), ctx.Lock(), ctx.Event()
            simple.put(3)
            p = ctx.Process(target=work, args=(queue, simple, there, value, lock, event))
            p.start()
            say(queue.get(), here.recv(), event.wait(20), p.join(), value.value)
        """
    code, out, errors = run_script(tmp_path / "script.py", "fastmp", body, "spawn")
    assert (code, errors) == (0, "")
    assert out == "[]\n3 [1, 'two'] True None 5\n"


@pytest.mark.parametrize("first", ["import socket", "import socket; socket.__spec__ = None", ""])
def test_a_socket_can_be_sent_whatever_was_loaded_first(first):
    body = f"""if True:
        import sys
        {first}
        import fastmp
        from fastmp import _std, connection
        from multiprocessing import reduction
        import socket
        reducers = reduction.ForkingPickler._extra_reducers
        print(_std.is_loaded(reduction), _std.is_loaded(socket), _std._Socket in reducers)
        one, other = socket.socketpair()
        print(_std.is_loaded(socket), _std._Socket in reducers, socket.socket in reducers)
        a, b = fastmp.Pipe()
        a.send(one)
        b.recv().sendall(b"x")
        print(other.recv(1), _std.connection.wait([a, other], 0))
    """
    done = run_python("-c", textwrap.dedent(body))
    assert done.stderr == ""
    begins = "True True False" if first else "True False True"
    assert done.stdout.splitlines() == [begins, "True False True", "b'x' []"]


def test_modules_that_are_loaded_late():
    """They behave as if they had been loaded at once."""
    body = """if True:
        import sys
        sys.argv[1:] = ["--multiprocessing-fork"]
        import fastmp
        from multiprocessing import reduction, util
        loaded = lambda: "subprocess" in sys.modules
        assert not loaded() and util.__name__ == "multiprocessing.util" and util.__file__
        assert not loaded()
        util._exiting = "set early"
        try:
            util.no_such_name
        except AttributeError as e:
            print(e)
        assert loaded() and util._exiting == "set early"
        assert fastmp._std.is_loaded(util) and not fastmp._std.is_loaded(reduction)
        assert "__getattr__" not in vars(util) and util.__spec__.loader is util.__loader__
        assert "sendfds" in dir(reduction) and fastmp._std.is_loaded(reduction)
        import importlib, multiprocessing.util
        assert importlib.reload(util) is util is fastmp.util
        print(util.spawnv_passfds.__wrapped__.__name__)
    """
    done = run_python("-c", textwrap.dedent(body))
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "module 'multiprocessing.util' has no attribute 'no_such_name'",
        "spawnv_passfds",
    ]


def test_the_module_signal_is_loaded_late():
    """And the names of exit codes are there all the same."""
    body = """if True:
        import os, sys
        import fastmp
        from multiprocessing import process
        codes = dict(process._exitcode_to_name)
        assert "enum" not in sys.modules
        import signal as module
        assert "enum" not in sys.modules and module.__name__ == "signal"
        module.signal(module.SIGUSR1, lambda number, frame: print("handled", number))
        os.kill(os.getpid(), module.SIGUSR1)
        from signal import *
        assert Signals is module.Signals and SIGTERM is module.SIGTERM
        names = [name for name in vars(module) if name[:3] == "SIG" and "_" not in name]
        assert codes == {-getattr(module, name): f"-{name}" for name in names}
        import importlib
        assert importlib.reload(module) is module is sys.modules["signal"]
    """
    done = run_python("-c", textwrap.dedent(body))
    assert done.stderr == ""
    assert done.stdout == f"handled {signal.SIGUSR1.value}\n"


def test_locks_and_queues_do_without_tempfile():
    """And what the stdlib's own SemLock takes from it is there when it is asked for."""
    body = """if True:
        import sys
        import fastmp
        context = fastmp.get_context("spawn")
        context.Lock(), context.Queue(), context.Event(), context.Pipe()
        loaded = lambda: [name for name in ("shutil", "random", "lzma") if name in sys.modules]
        print(loaded())
        from multiprocessing import synchronize
        theirs = fastmp._std.synchronize
        print(loaded(), iter(theirs.SemLock._rand) is theirs.SemLock._rand)
        one, other = (theirs.Lock(ctx=context)._semlock.name for _ in "12")
        print(one[:4], one != other)
        import tempfile
        print(tempfile._RandomNameSequence.__module__, theirs.tempfile is tempfile, len(loaded()))
    """
    done = run_python("-c", textwrap.dedent(body))
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["[]", "[] True", "/mp- True", "tempfile True 3"]


def test_what_a_small_program_does_not_load(tmp_path):
    """Their import would take a third of its time."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing, sys
            if __name__ == "__main__":
                p = multiprocessing.get_context("fork").Process(target=len, args=("",))
                p.start()
                p.join()
                heavy = "enum pickle queue socket subprocess tempfile typing pkgutil".split()
                if sys.version_info >= (3, 13):  # before, threading itself loads functools
                    heavy += ["functools", "collections"]
                print(multiprocessing.__name__, [name for name in heavy if name in sys.modules])
                from multiprocessing import connection, util
                print(vars(connection)["tempfile"] is sys.modules["tempfile"])
                print("shutil" in sys.modules)
                with connection.Listener(family="AF_UNIX") as listener:  # in a temporary directory
                    print("shutil" in sys.modules, sys.modules["tempfile"].gettempprefix())
            """
        )
    )
    done = run_python("-m", "fastmp", str(script))
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["fastmp []", "True", "False", "True tmp"]
