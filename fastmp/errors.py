"""Exceptions that fastmp adds to the stdlib's."""

from __future__ import annotations

from . import _std

__all__ = [
    "BrokenPoolError",
    "CorruptionError",
    "PoolTerminatedError",
    "TaskCancelledError",
    "TaskTimeoutError",
    "WorkerLostError",
]


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


class TaskCancelledError(RuntimeError):
    """``AsyncResult.cancel()`` has ended the call before its result came."""


class TaskTimeoutError(_std.context.TimeoutError):
    """A call of ``apply_async(timeout=...)`` ran for longer than that, and its worker was killed.

    ``seconds`` is the limit, ``task`` what was running.
    """

    def __init__(self, message: str, seconds: float | None = None, task: str | None = None) -> None:
        super().__init__(message)
        self.seconds = seconds
        self.task = task
