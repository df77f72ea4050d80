"""Programs that end in the middle of something: they end, say what the stdlib's do, leave nothing.

tests/support/at_exit.py has the programs.  What is expected of each is written here, and on one
Python compared with what the standard library does, where that ends at all.
"""

import contextlib
import os
import re
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import START_METHODS
from tests.support import procs, programs

SCRIPT = Path(__file__).parent / "support" / "at_exit.py"
COMPARED = sys.version_info[:2] == (3, 13) or "CI" not in os.environ
AT_A_TIME = 3
INTERRUPTED = -signal.SIGINT


class Ending(NamedTuple):
    """How a program ends: exit code, output, what is said without indentation on stderr."""

    code: int = 0
    out: str = ""
    said: tuple = ()


FAILED = ("Traceback (most recent call last):", "ValueError: of the main program")
CHILD_FAILED = ("Process NAME:", "Traceback (most recent call last):", "ValueError: of a child")

# The ending, and whether the standard library's is the same (it hangs, else, or leaves processes).
ENDINGS = {
    "full_queues": (Ending(), False),
    "full_queue_of_a_child_joined_first": (Ending(out="0 3000000 3000000"), False),
    "full_queue_that_nobody_reads": (Ending(), False),
    "full_queue_of_a_child_that_fails": (
        Ending(out=f"[1, 7] {[3_000_000] * 4}", said=CHILD_FAILED),
        False,
    ),
    "full_queue_and_an_exception": (Ending(1, said=FAILED), False),
    "closed_and_joined_queue": (Ending(), False),
    "live_daemons": (Ending(out="['here', 'here', 'here']"), True),
    "a_child_to_wait_for": (Ending(), True),
    "live_daemons_and_an_exception": (
        Ending(1, "['here', 'here', 'here']", ("of the main program",)),
        True,
    ),
    "threads_that_wait": (Ending(out="12"), True),
    "threads_that_wait_for_a_terminated_pool": (
        Ending(out=str(["PoolTerminatedError"] * 2)),
        False,
    ),
    "threads_that_wait_for_a_pool": (Ending(out="left"), True),
    "a_thread_of_a_child_that_waits": (Ending(out="0"), True),
    "a_running_pool_and_an_exception": (Ending(1, said=FAILED), True),
    "a_closed_pool": (Ending(), True),
    "a_pool_left_by_os_exit": (Ending(7), True),
    "handlers_that_use_them": (Ending(out="3000000\nlocked"), True),
}


def end_with_stacks(group):
    """Ends a process group; says where each was, which writes its Python stacks to its stderr."""
    members = [proc for proc in procs.scan().values() if proc.pgrp == group]
    where = "\n".join(procs.describe(proc) for proc in members)
    for proc in members:
        procs.send(proc, signal.SIGABRT)
        time.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    return where


def run(module, method, name, signals=(), timeout=programs.TIMEOUT):
    """Its Ending; an AssertionError when it does not end, or leaves processes or names."""
    command = [sys.executable, SCRIPT, module, method, name]
    env = programs.environment(PYTHONWARNINGS="ignore", PYTHONFAULTHANDLER="1")
    with programs.start(command, env) as process:
        try:
            if signals:
                assert process.stdout.readline() == "ready\n"
            for pause, kill, signum in signals:
                time.sleep(pause)
                kill(process.pid, signum)
            out, err = process.communicate(timeout=timeout)
        except BaseException as e:
            where = end_with_stacks(process.pid)
            out, err = process.communicate()
            said = f"{name} ({module}, {method}): {e!r}\n{where}\n{out}\n{err}"
            raise AssertionError(said) from e
    programs.check_group_is_empty(process.pid, command)
    said = [re.sub(r"^Process \S+:", "Process NAME:", line) for line in err.splitlines()]
    said = [line for line in said if line and not line[0].isspace()]
    return Ending(process.returncode, out.strip(), tuple(said))


def run_all(calls):
    """run(*call) for each, some beside each other: a list of Endings."""
    with ThreadPoolExecutor(AT_A_TIME) as threads:
        return list(threads.map(lambda call: run(*call), calls))


@pytest.mark.watchdog(120)
def test_programs_end(start_method):
    found = run_all([("fastmp", start_method, name) for name in ENDINGS])
    expected = {name: ending for name, (ending, _) in ENDINGS.items()}
    assert dict(zip(ENDINGS, found, strict=True)) == expected


@pytest.mark.watchdog(120)
@pytest.mark.no_sanitizer("starts the standard library's programs only")
@pytest.mark.skipif(not COMPARED, reason="the stdlib's endings are compared on one Python")
@pytest.mark.parametrize("method", START_METHODS)
def test_they_end_as_with_the_standard_library(method):
    names = [name for name, (_, same) in ENDINGS.items() if same]
    found = run_all([("multiprocessing", method, name) for name in names])
    assert dict(zip(names, found, strict=True)) == {name: ENDINGS[name][0] for name in names}


@pytest.mark.no_sanitizer("starts the standard library's programs only")
@pytest.mark.skipif(not COMPARED, reason="what the stdlib does is seen on one Python")
def test_full_queues_keep_the_standard_librarys_programs_from_ending():
    """Which shows that those programs are what they are meant to be."""

    def hangs(name):
        with pytest.raises(AssertionError, match="TimeoutExpired"):
            run("multiprocessing", "fork", name, timeout=4)

    names = [name for name, (_, same) in ENDINGS.items() if not same and "queue" in name]
    assert len(names) == 6
    with ThreadPoolExecutor(len(names)) as threads:
        list(threads.map(hangs, names))


INTERRUPTS = {
    "once": [(0.0, os.killpg, signal.SIGINT)],
    "twice": [(0.0, os.killpg, signal.SIGINT), (0.05, os.killpg, signal.SIGINT)],
    "three times": [(0.1, os.killpg, signal.SIGINT)] + [(0.02, os.killpg, signal.SIGINT)] * 2,
}
SIGNALLED = [
    "queues_and_a_signal",
    "a_full_queue_and_a_signal",
    "a_pool_and_a_signal",
    "a_pool_left_behind_and_a_signal",
]


@pytest.mark.watchdog(120)
@pytest.mark.parametrize("times", INTERRUPTS)
def test_ctrl_c(start_method, times):
    """The terminal's: to the parent, and to its children as well."""
    calls = [("fastmp", start_method, name, INTERRUPTS[times]) for name in SIGNALLED]
    for name, ending in zip(SIGNALLED, run_all(calls), strict=True):
        # The last one may meet the interpreter while it prints the one before.
        told = any("KeyboardInterrupt" in line for line in ending.said)
        assert ending.code == INTERRUPTED or (told and ending.code in (1, 130)), (name, ending)


@pytest.mark.watchdog(120)
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_sigterm_and_sigkill(start_method, signum):
    """To the parent alone: its pool's workers leave when their tasks have ended."""
    names = ["a_full_queue_and_a_signal", "a_pool_left_behind_and_a_signal"]
    calls = [("fastmp", start_method, name, [(0.0, os.kill, signum)]) for name in names]
    for name, ending in zip(names, run_all(calls), strict=True):
        assert ending.code == -signum, (name, ending)


@pytest.mark.watchdog(120)
def test_everybody_is_killed_at_once(start_method):
    """Nobody is left to clean up, and the census finds nothing to be cleaned up."""
    calls = [
        ("fastmp", start_method, name, [(0.0, os.killpg, signal.SIGKILL)]) for name in SIGNALLED
    ]
    for name, ending in zip(SIGNALLED, run_all(calls), strict=True):
        assert ending.code == -signal.SIGKILL, (name, ending)
