"""The leak census: what a test process holds, before and after a test.

Counted: processes (zombies and orphans too), file descriptors, threads, names in /dev/shm, and
mappings of fastmp's memfds. What grew must shrink back within a short grace, else the test fails
with a list of what is left. A test that failed on its own is only cleaned up after: the traceback
that pytest keeps may rightly hold on to things.

What the standard library starts once and keeps (forkserver, resource tracker and their pipes) is
not a leak; `singletons` knows it.  Nor is the process that fastmp's fork server has forked ahead.
"""

import contextlib
import gc
import os
import re
import signal
import sys
import threading
import time
from typing import NamedTuple

from . import procs

GRACE = float(os.environ.get("FASTMP_CENSUS_GRACE", "10"))
SHM = "/dev/shm"
SEGMENT = "/memfd:fastmp"
MAPPING = re.compile(rf"^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ (\d+) +({SEGMENT}.*)$", re.MULTILINE)
# The stdlib's heap (a classic Value or Array) keeps its arenas, which are unlinked files.
STDLIB_ARENA = re.compile(r"/pym-\d+-\w+ \(deleted\)$")
# libffi keeps its own file open from the first closure of ctypes on, where it maps code from it.
LIBFFI = re.compile(r"/libffi\.so[.\d]*$")

# loky's and joblib's names in /dev/shm carry the pid of the process that made them.
BY_MAKER = re.compile(r"(?:sem\.loky-|joblib_memmapping_folder_)(\d+)[-_]")


class Snapshot(NamedTuple):
    """What the process holds at one moment; each part maps an identity to a description."""

    processes: dict
    fds: dict
    threads: dict
    shm: dict
    mappings: dict  # by inode
    slab: str  # the inode of the one that small slots are cut from at the moment


def _stdlib(name):
    """A module of the stdlib's multiprocessing, if it was imported."""
    return sys.modules.get(f"multiprocessing.{name}")


def singletons():
    """(pids, fds) of what the standard library starts once in a process."""
    pids, fds = set(), set()
    forkserver, tracker = _stdlib("forkserver"), _stdlib("resource_tracker")
    if forkserver is not None:
        pids.add(forkserver._forkserver._forkserver_pid)
        fds.add(forkserver._forkserver._forkserver_alive_fd)
    if tracker is not None:
        pids.add(tracker._resource_tracker._pid)
        fds.add(tracker._resource_tracker._fd)
    return pids - {None}, fds - {None}


def spares():
    """The pids of what the fork server has forked for nobody yet.

    Each of its children has the pipe by which the server learns that all who use it have ended,
    from when it has read its request on; one that we have started we know before that.
    """
    forkserver = _stdlib("forkserver")
    server = forkserver and forkserver._forkserver._forkserver_pid
    if server is None:
        return set()
    alive = os.readlink(f"/proc/self/fd/{forkserver._forkserver._forkserver_alive_fd}")
    idle = {
        proc.pid
        for proc in procs.scan().values()
        if proc.ppid == server and proc.state != "Z" and alive not in _held_by(proc.pid)
    }
    # Asked last: what is handed to us while we look is ours, too.
    return idle - {child.ident for child in set(_stdlib("process")._children)}


def _held_by(pid):
    held = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # it has just closed that one
                held.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    except (FileNotFoundError, ProcessLookupError):
        pass  # it has just ended
    return held


def _processes(allowed):
    family = procs.family(os.getpid())
    idle = spares()
    return {
        proc.identity: proc
        for proc in family.values()
        if proc.pid not in allowed
        and proc.pid not in idle
        # A tracker that the forkserver started for its children, as the stdlib does.
        and not (proc.ppid in allowed and procs.is_tracker(proc.pid))
        # An orphan's zombie is init's to reap, a sibling's its parent's.
        and not (proc.state == "Z" and proc.ppid not in family and proc.ppid != os.getpid())
    }


def _fds(allowed):
    found = {}
    allowed = {*allowed, 0, 1, 2}  # pytest's capture moves these about
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
            if target.startswith(SEGMENT):
                target = f"{SEGMENT}, inode {os.stat(f'/proc/self/fd/{name}').st_ino}"
        except FileNotFoundError:
            continue  # the descriptor of this very listing, or what a thread has just closed
        if int(name) in allowed or STDLIB_ARENA.search(target) or LIBFFI.search(target):
            continue
        found[int(name), target] = f"fd {name} -> {target}"
    return found


def _threads():
    names = {t.native_id: t.name for t in threading.enumerate()}
    return {
        int(tid): f"thread {tid} ({names.get(int(tid), 'not a Python thread')})"
        for tid in os.listdir("/proc/self/task")
    }


def mark_semaphores():
    """Gives the stdlib's named semaphores of this process and its children a prefix of their own,
    so that those of a test beside this one are not taken for ours."""
    from multiprocessing import process

    process.current_process()._config["semprefix"] = f"/mp{os.getpid()}"


def _is_a_strangers(name):
    if BY_MAKER.match(name):  # of a program, whose end tests/libs/program.py looks after
        return True
    return name.startswith("sem.mp") and not name.startswith(f"sem.mp{os.getpid()}-")


def _is_of_this_user(entry):
    try:
        return entry.stat().st_uid == os.getuid()
    except FileNotFoundError:
        return False  # a stranger's, who has just removed it


def _shm():
    try:
        with os.scandir(SHM) as entries:
            return {
                e.name: f"{SHM}/{e.name}"
                for e in entries
                if _is_of_this_user(e) and not _is_a_strangers(e.name)
            }
    except FileNotFoundError:
        return {}


def _segments():
    """The mappings of fastmp's memory, and the inode of that which a new small slot lies in."""
    import ctypes

    import fastmp

    slot = fastmp.RawValue("b")
    address = ctypes.addressof(slot)
    with open("/proc/self/maps", errors="replace") as file:
        found = MAPPING.findall(file.read())
    slab = [inode for begin, end, inode, _ in found if int(begin, 16) <= address < int(end, 16)]
    return {inode: f"mapping of {name}" for _, _, inode, name in found}, slab[0]


def take():
    pids, fds = singletons()
    mappings, slab = _segments()
    return Snapshot(_processes(pids), _fds(fds), _threads(), _shm(), mappings, slab)


def _mapped_by_a_stranger(name):
    """Whether a process that is not of our family uses the name: a test beside this one."""
    ours = {os.getpid(), *procs.family(os.getpid())}
    for pid in procs.scan():
        if pid in ours:
            continue
        try:
            with open(f"/proc/{pid}/maps", errors="replace") as file:
                if f"{SHM}/{name}\n" in file.read():
                    return True
        except OSError:
            continue
    return False


def _is_segment(fd):
    return fd[1].startswith(SEGMENT)


def _segment_fds(snapshot):
    """Without the open slab's: a full one is changed for another, and goes with its last slot."""
    slab = f"{SEGMENT}, inode {snapshot.slab}"
    return {fd: text for fd, text in snapshot.fds.items() if _is_segment(fd) and fd[1] != slab}


def _segment_mappings(snapshot):
    return {i: text for i, text in snapshot.mappings.items() if i != snapshot.slab}


def _grown(before, now, all_before):
    """A process maps segments that many objects share, and may have changed one for another: those
    that are new count if there are more of them."""
    if len(now) <= len(before):
        return []
    return [text for identity, text in now.items() if identity not in all_before]


def leaks(before):
    """What is held now and was not before: [description]."""
    now = take()
    found = []
    for identity, proc in now.processes.items():
        if identity not in before.processes:
            found.append(procs.describe(proc))
    found += [text for tid, text in now.threads.items() if tid not in before.threads]
    found += [
        text
        for identity, text in now.fds.items()
        if identity not in before.fds and not _is_segment(identity)
    ]
    found += _grown(_segment_mappings(before), _segment_mappings(now), before.mappings)
    found += _grown(_segment_fds(before), _segment_fds(now), before.fds)
    for name, text in now.shm.items():
        if name in before.shm or _mapped_by_a_stranger(name):
            continue
        # A stranger's semaphore may have gone, and so its mapping, while we looked for the latter.
        if os.path.exists(f"{SHM}/{name}"):
            found.append(text + " (nobody else has it mapped)")
    return found


def stop_sharer():
    """Ends the stdlib's lazily started resource sharer: its thread and its socket."""
    sharer = _stdlib("resource_sharer")
    if sharer is not None and sharer._resource_sharer._listener is not None:
        sharer.stop(timeout=5)


def settle(before, grace=GRACE):
    """Waits until nothing is left of the test, at most `grace` seconds; returns what is left."""
    deadline = time.monotonic() + grace
    pause = 0.005
    found = leaks(before)
    while found:
        is_last = time.monotonic() > deadline  # said before the look, during which time may pass
        stop_sharer()
        gc.collect()
        found = leaks(before)
        if is_last:
            break
        if found:
            time.sleep(pause)
            pause = min(2 * pause, 0.2)
    return found


def clean_up(before):
    """Kills the processes that are left, and reaps and forgets those that are ours."""
    pids, _ = singletons()
    killed = set()
    for identity, proc in _processes(pids).items():
        if identity in before.processes:
            continue
        procs.send(proc, signal.SIGKILL)
        if proc.ppid == os.getpid():
            try:
                os.waitpid(proc.pid, 0)
            except ChildProcessError:
                pass  # reaped in between
        killed.add(proc.pid)
    known = _stdlib("process")
    if killed and known is not None:  # active_children() of the next test
        known._children -= {child for child in known._children if child.ident in killed}
