"""The watchdog and the leak census bite: each kind of leak fails its test, a hang is ended.

Every case is a test of its own in a pytest run of its own, under our conftest.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.support import census, procs

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.once("about the tests' own tools")

#: The cases are sure to leak or to hang: no need to wait long for them.
IMPATIENT = {"PYTHONPATH": str(ROOT), "FASTMP_CENSUS_GRACE": "0.3", "FASTMP_WATCHDOG_GIVE_UP": "6"}


#: What a test calls that leaves a `sleep` behind, as it takes a moment to fall asleep.
ASLEEP = """
from tests.support import procs
def until_asleep():
    while ("sleep", "S") not in [(p.name, p.state) for p in procs.family(os.getpid()).values()]:
        time.sleep(0.01)
"""


def run(tmp_path, body, *args, env=IMPATIENT):
    """Runs a file with the tests in `body`; returns (exit code, output)."""
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    header = "import mmap, os, socket, subprocess, sys, threading, time\nimport pytest\n" + ASLEEP
    (tmp_path / "test_case.py").write_text(header + textwrap.dedent(body))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *args]
    done = subprocess.run(
        [*command, "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
    )
    return done.returncode, done.stdout


#: What the test leaves behind, and what the census must say about it.
LEAKS = {
    "a running child": (
        """
        def test_case():
            os.posix_spawnp("sleep", ["sleep", "30"], os.environ)
            until_asleep()
        """,
        "(sleep) state S",
    ),
    "a zombie": (
        """
        def test_case():
            if (pid := os.fork()) == 0:
                os._exit(0)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        """,
        "zombie, never waited for",
    ),
    "an orphan": (
        """
        def test_case():
            if os.fork() == 0:
                os.posix_spawnp("sleep", ["sleep", "30"], os.environ)
                os._exit(0)
            os.wait()
            until_asleep()
        """,
        "(sleep) state S",
    ),
    "a grandchild": (
        """
        import multiprocessing
        def test_case():
            child = multiprocessing.get_context("forkserver").Process(
                target=subprocess.Popen, args=(["sleep", "30"],))
            child.start()
            child.join()
            until_asleep()
        """,
        "(sleep) state S",
    ),
    "a descriptor": (
        """
        def test_case():
            os.dup(0)
        """,
        "fd ",
    ),
    "a descriptor in a cycle that is kept": (
        """
        kept = []
        def test_case():
            kept.append(socket.socket())
        """,
        "socket:[",
    ),
    "a thread": (
        """
        def test_case():
            threading.Thread(target=time.sleep, args=(30,), name="lingers", daemon=True).start()
        """,
        "(lingers)",
    ),
    "a name in /dev/shm": (
        """
        from tests.support import census
        census.SHM = "."  # a test beside this one would see the name
        def test_case():
            open("left", "w").close()
        """,
        "./left (nobody else has it mapped)",
    ),
    "a mapping": (
        """
        kept = []
        def test_case():
            fd = os.memfd_create("fastmp")
            os.ftruncate(fd, 4096)
            kept.append(mmap.mmap(fd, 4096))
            os.close(fd)
        """,
        "mapping of /memfd:fastmp",
    ),
    "a large shared object": (
        """
        import fastmp
        kept = []
        def test_case():
            kept.append(fastmp.RawArray("d", 100_000))
        """,
        "mapping of /memfd:fastmp",
    ),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_fails_its_test(tmp_path, leak):
    body, said = LEAKS[leak]
    code, output = run(tmp_path, body)
    assert code == 1, output
    assert "the test left behind:" in output and said in output, output
    assert "1 passed, 1 error" in output, output


def test_what_goes_within_the_grace_or_with_the_garbage_is_no_leak(tmp_path):
    code, output = run(
        tmp_path,
        """
        import fastmp, multiprocessing

        def test_thread_that_ends_soon():
            threading.Thread(target=time.sleep, args=(0.5,)).start()

        def test_garbage_in_a_cycle():
            cycle = [socket.socket()]
            cycle.append(cycle)
            cycle[0].detach and None

        @pytest.fixture
        def held():
            yield socket.socketpair()

        def test_value_of_a_fixture(held):
            a, b = held
            a.close(), b.close()

        @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
        def test_what_the_stdlib_keeps(method):
            child = multiprocessing.get_context(method).Process(target=time.sleep, args=(0,))
            child.start()
            child.join()
            child.close()

        small = fastmp.RawValue("i")

        def test_a_full_slab_is_changed_for_another_though_something_lies_in_it():
            for _ in range(100):
                fastmp.RawArray("b", 4000)

        @pytest.fixture(scope="module")
        def wide():
            child = subprocess.Popen(["sleep", "30"])
            yield child
            child.kill()
            child.wait()

        def test_a_wider_fixture(wide):
            pass

        def test_a_wider_fixture_again(wide):
            pass
        """,
        "-W",
        "ignore::ResourceWarning",
        "-W",
        "ignore::pytest.PytestUnraisableExceptionWarning",
        env={"PYTHONPATH": str(ROOT)},
    )
    assert code == 0, output
    assert "9 passed" in output, output


def test_a_leak_is_not_blamed_on_the_next_test(tmp_path):
    code, output = run(
        tmp_path,
        """
        def test_leaks():
            subprocess.run(["sh", "-c", "sleep 30 & exit 0"])
            os.dup(0)

        def test_clean():
            pass
        """,
    )
    assert code == 1, output
    assert "ERROR at teardown of test_leaks" in output, output
    assert "2 passed, 1 error" in output, output


def test_a_failing_test_is_cleaned_up_after(tmp_path):
    code, output = run(
        tmp_path,
        """
        import multiprocessing

        def test_fails():
            pair = socket.socketpair()
            with open("pid", "w") as file:
                file.write(str(os.posix_spawnp("sleep", ["sleep", "30"], os.environ)))
            child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
            child.start()
            assert not pair

        def test_next():
            assert multiprocessing.active_children() == []
        """,
    )
    assert code == 1, output
    assert "1 failed, 1 passed" in output and "error" not in output.splitlines()[-1], output
    assert not procs.runs(int((tmp_path / "pid").read_text()))


HANGS = {
    "in Python": """
        @pytest.mark.watchdog(3)
        def test_hangs():
            while True:
                pass
        """,
    "in a system call": """
        @pytest.mark.watchdog(3)
        def test_hangs():
            time.sleep(100)
        """,
    "waiting for a child": """
        @pytest.mark.watchdog(3)
        def test_hangs():
            subprocess.run(["sleep", "100"])
        """,
    "in a teardown": """
        @pytest.fixture
        def slow():
            yield
            time.sleep(100)

        @pytest.mark.watchdog(3)
        def test_hangs(slow):
            pass
        """,
}


@pytest.mark.parametrize("where", HANGS)
def test_a_hang_is_ended(tmp_path, where):
    code, output = run(tmp_path, HANGS[where] + "\n        def test_next():\n            pass\n")
    assert code == 1, output
    assert "test_hangs was ended after 3 s" in output, output
    assert "Stacks of pid" in output, output
    assert ("in slow" if where == "in a teardown" else "in test_hangs") in output, output
    assert "::test_next" not in output, output


STUCK_IN_C = """
    import ctypes

    @pytest.mark.watchdog(3)
    def test_stuck():
        pause = ctypes.PyDLL(None).sleep  # PyDLL: holds the GIL
        while True:
            try:
                pause(100)
            except BaseException:
                pass

    def test_next():
        pass
    """


def test_a_test_stuck_in_c_with_the_gil_is_ended(tmp_path):
    code, output = run(tmp_path, STUCK_IN_C, "-n1")
    assert code == 1, output
    assert "test_stuck was ended after 3 s" in output, output
    assert "could not be interrupted and was killed" in output, output
    assert "1 failed, 1 passed" in output, output


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_a_hanging_test_are_killed_and_shown(tmp_path, method):
    code, output = run(
        tmp_path,
        f"""
        import multiprocessing

        def sleeps_for_ever(path):
            with open(path, "w") as file:
                file.write(str(os.getpid()))
            time.sleep(100)

        @pytest.mark.watchdog(8)  # a loaded machine takes its time to start the child
        def test_hangs(tmp_path):
            child = multiprocessing.get_context({method!r}).Process(
                target=sleeps_for_ever, args=({str(tmp_path / "pid")!r},))
            child.start()
            child.join()
        """,
    )
    assert code == 1, output
    assert "in sleeps_for_ever" in output, output
    assert not procs.runs(int((tmp_path / "pid").read_text()))


def test_a_killed_test_run_leaves_no_processes(tmp_path):
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "test_case.py").write_text(
        "import subprocess\n"
        "def test_case():\n"
        "    child = subprocess.Popen(['sleep', '100'])\n"
        "    print(child.pid, file=open('pid', 'w'), flush=True)\n"
        "    child.wait()\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"]
    victim = subprocess.Popen(
        [*command, "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, **IMPATIENT},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    pid = tmp_path / "pid"
    try:
        while not (pid.exists() and pid.read_text()):
            assert victim.poll() is None
            time.sleep(0.02)
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    deadline = time.monotonic() + 10
    while procs.runs(int(pid.read_text())):
        assert time.monotonic() < deadline, "the test's child outlived the killed test run"
        time.sleep(0.05)


def test_a_name_that_goes_while_the_census_reads_hides_no_other(tmp_path, monkeypatch):
    (tmp_path / "there").touch()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")  # is listed, and cannot be looked at
    monkeypatch.setattr(census, "SHM", str(tmp_path))
    assert list(census._shm()) == ["there"]


#
# What a test's children import
#


def loads_pytest(use):
    if use:
        with pytest.raises(ZeroDivisionError):
            _ = 1 / 0
    return "_pytest" in sys.modules


def test_spawned_children_do_without_pytest_until_they_use_it():
    """tests/support/light_pytest.py: else most of a run's time would go into importing it."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(loads_pytest, (False,)) is False
        assert pool.apply(loads_pytest, (True,)) is True
        pool.terminate()
        pool.join()
