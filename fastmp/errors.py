"""Exceptions that fastmp adds to the stdlib's."""

__all__ = ["CorruptionError", "WorkerLostError"]


class CorruptionError(OSError):
    """Shared memory holds what no fastmp process writes: a wild pointer, or a hostile peer."""


class WorkerLostError(RuntimeError):
    """A pool's worker died while it ran a task; that task is lost, the pool goes on."""
