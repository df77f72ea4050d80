"""Exceptions that fastmp adds to the stdlib's."""

from __future__ import annotations

__all__ = ["BrokenPoolError", "CorruptionError", "PoolTerminatedError", "WorkerLostError"]


class CorruptionError(OSError):
    """Shared memory holds what no fastmp process writes: a wild pointer, or a hostile peer."""


class WorkerLostError(RuntimeError):
    """A pool's worker died while it ran a task; that task is lost, the pool goes on.

    ``pid`` is the worker's, ``exitcode`` what ``Process.exitcode`` says of it (-9 for SIGKILL; None
    when it is not known), ``task`` what it was running.
    """

    def __init__(
        self,
        message: str,
        pid: int | None = None,
        exitcode: int | None = None,
        task: str | None = None,
    ) -> None:
        super().__init__(message)
        self.pid = pid
        self.exitcode = exitcode
        self.task = task


class BrokenPoolError(RuntimeError):
    """The workers of a pool cannot be started, so that none of its jobs can be done."""


class PoolTerminatedError(RuntimeError):
    """The pool was terminated before the result came."""
