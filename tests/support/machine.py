"""A small machine to run things on: limits, a control group, namespaces with another /dev/shm."""

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import time

import pytest

import fastmp
from tests.support import programs


def in_a_limited_child(limit, value, job):
    """Run job() in a forked child under a soft limit; its exit code tells, its output what."""

    def main():
        hard = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (value, hard))
        job()

    in_a_child(main)


def in_a_child(main):
    p = fastmp.get_context("fork").Process(target=main)
    p.start()
    p.join()
    assert p.exitcode == 0


def within(seconds, condition):
    """Whether the condition becomes true in that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def address_space():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


#
# Control groups
#


def _own_memory_group():
    """(folder, file of the limit) of this process's group, by version 1 or 2."""
    with open("/proc/self/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if controllers == "memory":
                yield f"/sys/fs/cgroup/memory{path}", "memory.limit_in_bytes"
                yield "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
            elif controllers == "":
                yield f"/sys/fs/cgroup{path}", "memory.max"


def _make_group(folder, name, limit):
    """A group with a limit, and one in it, which is returned; or None."""
    group = f"{folder}/fastmp-test-{os.getpid()}"
    try:
        os.mkdir(group)
        with open(f"{group}/{name}", "w") as file:
            file.write(str(limit))
        os.mkdir(f"{group}/inner")
    except OSError:
        with contextlib.suppress(OSError):
            os.rmdir(group)
        return None
    return f"{group}/inner"


@contextlib.contextmanager
def memory_group(limit):
    """A control group within one that is limited: enter() puts the calling process into it.

    enter.group is its folder. The test is skipped where none can be made.
    """
    made = (_make_group(folder, name, limit) for folder, name in _own_memory_group())
    inner = next(filter(None, made), None)
    if inner is None:
        pytest.skip("no control group for memory can be made here (it takes root)")

    def enter():
        with open(f"{inner}/cgroup.procs", "w") as file:
            file.write(str(os.getpid()))

    enter.group = inner
    try:
        yield enter
    finally:
        os.rmdir(inner)
        os.rmdir(os.path.dirname(inner))


#
# Another /dev/shm
#

_SETUP = {
    "1 MB": "mount -t tmpfs -o size=1m none /dev/shm",
    "read-only": "mount -t tmpfs -o ro none /dev/shm",
    # A /dev of our own, which has no shm.
    "absent": """
        mount -t tmpfs none "$1"
        for name in null zero full random urandom tty; do
            [ -e /dev/$name ] && touch "$1/$name" && mount --bind /dev/$name "$1/$name"
        done
        ln -s /proc/self/fd "$1/fd"
        mount --rbind "$1" /dev
    """,
    "full disk": """
        mount -t tmpfs -o size=64k none "$1"
        export TMPDIR="$1"
        cd "$1"
        head -c 1M /dev/zero >fill 2>/dev/null || true
        ! echo more >more 2>/dev/null || ! [ -s more ] || exit 99
        touch none 2>/dev/null
    """,
}


def _unshare():
    """The command that gives a mount namespace in which we may mount, or None."""
    if shutil.which("unshare"):
        for command in (["unshare", "-m"], ["unshare", "-Urm"]):
            trial = [*command, "mount", "-t", "tmpfs", "none", "/dev/shm"]
            if subprocess.run(trial, capture_output=True).returncode == 0:
                return command
    return None


def run_where(what, arguments, scratch):
    """Run this Python with the arguments where /dev/shm, or the disk, is like that."""
    command = _unshare()
    if command is None:
        pytest.skip("no mount namespace can be made here (root, or user namespaces, are needed)")
    script = f'set -e\n{_SETUP[what]}\nshift\nexec "$@"'
    shell = ["sh", "-c", script, "sh", str(scratch), sys.executable, *map(str, arguments)]
    env = programs.environment(PYTHONDONTWRITEBYTECODE="1")
    return programs.run_command([*command, *shell], env)
