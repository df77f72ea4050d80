"""Writes down what each process of a run had as ``multiprocessing``, and which it started.

Copied into the site-packages of the Python under test as ``fastmp_cpython_recorder`` and imported
by a .pth file, so at the start of every process that reads site-packages, when FASTMP_CPYTHON_LOG
names a file.  Each event is one JSON line there, with the process's pid:

* ``start``: a Python has started (``argv``: its command line), or is forked (``fork``);
* ``load``: it executes the ``__init__.py`` of a package named multiprocessing or fastmp
  (``file``), however it came to that: the interpreter itself tells, by an audit event;
* ``exec``: it has started another program (``child``: its pid, ``argv``).

A process that cannot be seen here, because it was started with -S, is one whose ``exec`` has no
``start``: see `tests.cpython.witness`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

__all__ = ["begin"]

_PACKAGES = ("/multiprocessing/__init__.py", "/fastmp/__init__.py")


def _write(**event: object) -> None:
    line = json.dumps({"pid": os.getpid(), **event}) + "\n"
    fd = os.open(_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)


def _on_audit_event(event: str, args: tuple[Any, ...]) -> None:
    if event == "exec":
        file = getattr(args[0], "co_filename", "")
        if file.endswith(_PACKAGES):
            _write(event="load", file=file)
    elif event in ("os.exec", "os.posix_spawn", "os.spawn"):
        # Only these ways tell no pid: the program is named, and found by that.
        _write(event="exec", child=None, argv=[_text(arg) for arg in args[-2]])


def _text(arg: object) -> str:
    return os.fsdecode(arg) if isinstance(arg, (str, bytes, os.PathLike)) else repr(arg)


def _watch_fork_exec() -> None:
    """What ``subprocess`` and ``multiprocessing`` start programs by."""
    import _posixsubprocess

    start = _posixsubprocess.fork_exec

    def fork_exec(args: Any, *rest: Any) -> Any:
        pid = start(args, *rest)
        _write(event="exec", child=pid, argv=[_text(arg) for arg in args])
        return pid

    _posixsubprocess.fork_exec = fork_exec


def begin(log: str) -> None:
    """Record this process and those it forks into the file *log*."""
    global _log
    _log = log
    _write(event="start", argv=sys.orig_argv)
    os.register_at_fork(after_in_child=lambda: _write(event="fork"))
    sys.addaudithook(_on_audit_event)
    _watch_fork_exec()


_log = ""
if os.environ.get("FASTMP_CPYTHON_LOG"):
    begin(os.environ["FASTMP_CPYTHON_LOG"])
