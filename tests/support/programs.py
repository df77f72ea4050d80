"""Runs whole programs the way a user does, beside each other, and says what came out."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import fastmp
from tests.support import procs

SITE = Path(__file__).resolve().parent / "site"
PACKAGE = Path(fastmp.__file__).resolve().parents[1]
TIMEOUT = 45.0 * float(os.environ.get("FASTMP_WATCHDOG_SCALE", "1"))  # the watchdog has 60


@dataclass(frozen=True)
class Outcome:
    """What a program left: its exit code and its two streams."""

    code: int
    out: str
    err: str


def environment(**variables):
    """The environment for a program that shall find fastmp, but not have it installed.

    No other variable of Python's own gets through: an unbuffered stream, say, tears lines apart.
    """
    ours = ("FASTMP_", "PYTHON")
    env = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    env["PYTHONPATH"] = os.pathsep.join([str(SITE), str(PACKAGE)])
    env.update(variables)
    return env


def run(arguments, env, timeout=TIMEOUT):
    """Run this Python with the arguments, to the end of every process that writes to its streams.

    After ``timeout`` seconds the program and all that it started are killed, and the test fails
    with what had been written. It fails as well if the program leaves a process behind.
    """
    return run_command([sys.executable, *map(str, arguments)], env, timeout)


def start(arguments, env):
    """The Popen of a command in a session of its own, whose output is to be read."""
    return subprocess.Popen(
        arguments,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run_command(arguments, env, timeout=TIMEOUT):
    """The same for any command."""
    with start(arguments, env) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(
                f"{arguments} still ran after {timeout} s\n--- stdout\n{out}\n--- stderr\n{err}"
            ) from None
    check_group_is_empty(process.pid, arguments)
    return Outcome(process.returncode, out, err)


def check_group_is_empty(group, arguments, timeout=5.0):
    """Wait until nobody is in a program's process group; kill what does not leave, and fail."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    members = [proc for proc in procs.scan().values() if proc.pgrp == group]
    left = [procs.describe(proc) for proc in members]
    for proc in members:
        procs.send(proc, signal.SIGKILL)
    raise AssertionError(f"{arguments} left processes behind: {left}")


def run_beside_each_other(runs):
    """Run several programs at once: a dict of name -> (arguments, env) gives name -> Outcome."""
    with ThreadPoolExecutor(len(runs)) as threads:
        started = {name: threads.submit(run, *call) for name, call in runs.items()}
        return {name: future.result() for name, future in started.items()}
