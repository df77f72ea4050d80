"""Processes as /proc shows them: who exists, who belongs to whom, what they are doing.

Imports the standard library's cheapest modules only: the watchdog's own process loads this too.
"""

import os
import signal
from typing import NamedTuple


class Proc(NamedTuple):
    """One line of /proc/<pid>/stat; (pid, start) names a process for good."""

    pid: int
    ppid: int
    pgrp: int
    session: int
    state: str
    start: int
    name: str

    @property
    def identity(self):
        return self.pid, self.start


def read(pid):
    """The process `pid`, or None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            line = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name is in parentheses and may hold anything, parentheses too.
    head, _, tail = line.rpartition(b")")
    name = head.partition(b"(")[2].decode(errors="replace")
    fields = tail.split()
    return Proc(
        pid=pid,
        ppid=int(fields[1]),
        pgrp=int(fields[2]),
        session=int(fields[3]),
        state=fields[0].decode(),
        start=int(fields[19]),
        name=name,
    )


def runs(pid):
    """Whether the process exists and has not ended (a zombie has)."""
    proc = read(pid)
    return proc is not None and proc.state not in "ZX"


def send(proc, signum):
    """Signals the process, and never another that has got its pid since it was read."""
    try:
        fd = os.pidfd_open(proc.pid)
    except OSError:
        return  # gone
    try:
        now = read(proc.pid)  # the descriptor pins whoever has the pid now
        if now is not None and now.identity == proc.identity:
            signal.pidfd_send_signal(fd, signum)
    except ProcessLookupError:
        pass  # it has just ended
    finally:
        os.close(fd)


def scan():
    """Every process: {pid: Proc}."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            proc = read(int(entry))
            if proc is not None:
                found[proc.pid] = proc
    return found


def family(root, everybody=None):
    """The processes that `root` started, orphans included: {pid: Proc}, without `root`.

    Orphans are recognised by root's session or process group, when root leads one; it then has
    to be so since before it started anybody.
    """
    everybody = scan() if everybody is None else everybody
    members = {root}
    for proc in everybody.values():
        if root in (proc.session, proc.pgrp):
            members.add(proc.pid)
    growing = True
    while growing:
        more = {p.pid for p in everybody.values() if p.ppid in members} - members
        members |= more
        growing = bool(more)
    members.discard(root)
    return {pid: everybody[pid] for pid in members if pid in everybody}


def lead_a_session():
    """Makes this process the leader of a session, if it can be, so that orphans are recognised."""
    try:
        os.setsid()
    except PermissionError:
        pass  # it leads a process group already, which does as well


def _text(pid, name):
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "?"


def is_tracker(pid):
    """Whether the process is a resource tracker of the standard library."""
    return "resource_tracker import main" in _text(pid, "cmdline")


def describe(proc):
    """One line for a listing: who it is and where it sleeps."""
    if proc.state == "Z":
        return f"pid {proc.pid} ({proc.name}) zombie, never waited for; parent {proc.ppid}"
    command = _text(proc.pid, "cmdline")
    if len(command) > 160:
        command = command[:160] + "..."
    return (
        f"pid {proc.pid} ({proc.name}) state {proc.state}, parent {proc.ppid}, "
        f"in {_text(proc.pid, 'wchan')}, syscall {_text(proc.pid, 'syscall')}: {command}"
    )


def catches(pid, signum):
    """Whether the process has a handler for the signal."""
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith("SigCgt:"):
                    return bool(int(line.split()[1], 16) >> (signum - 1) & 1)
    except (FileNotFoundError, ProcessLookupError):
        pass
    return False
