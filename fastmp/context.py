"""Contexts and process classes: the stdlib's, with fastmp's objects behind the factory methods.

Nothing here holds state.  Which start method is set, which contexts exist, which process is being
spawned: all of that is the stdlib's ``multiprocessing.context``, so that code using either package
in one process agrees.  Every class derives from the stdlib's class of the same name; exceptions are
the same classes.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # not signal, which loads enum
from _collections_abc import MutableMapping  # collections takes 1 ms to load
from importlib import import_module

from . import _std, process

TYPE_CHECKING = False  # for type checkers, without importing typing or what is imported late
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from multiprocessing import context as _original
    from multiprocessing.managers import SyncManager
    from typing import Any

    from . import connection, pool, queues, synchronize
else:
    _original = _std.context

__all__ = ()

ProcessError = _original.ProcessError
BufferTooShort = _original.BufferTooShort
TimeoutError = _original.TimeoutError
AuthenticationError = _original.AuthenticationError

assert_spawning = _original.assert_spawning
get_spawning_popen = _original.get_spawning_popen
set_spawning_popen = _original.set_spawning_popen
_tls = _original._tls


class BaseContext(_original.BaseContext):
    """The stdlib's context; what it makes is fastmp's."""

    def Manager(self) -> SyncManager:
        """Returns a manager associated with a running server process

        The managers methods such as `Lock()`, `Condition()` and `Queue()`
        can be used to create shared objects.
        """
        from .managers import SyncManager

        m = SyncManager(ctx=self.get_context())
        m.start()
        return m

    def Pipe(self, duplex: bool = True) -> tuple[connection.Connection, connection.Connection]:
        """Returns two connection object connected by a pipe"""
        from .connection import Pipe

        return Pipe(duplex)

    def Lock(self, *, robust: bool = False) -> synchronize.Lock:
        """Returns a non-recursive lock object"""
        from .synchronize import Lock

        return Lock(ctx=self.get_context(), robust=robust)

    def RLock(self) -> synchronize.RLock:
        """Returns a recursive lock object"""
        from .synchronize import RLock

        return RLock(ctx=self.get_context())

    def Condition(self, lock: Any = None) -> synchronize.Condition:
        """Returns a condition object"""
        from .synchronize import Condition

        return Condition(lock, ctx=self.get_context())

    def Semaphore(self, value: int = 1) -> synchronize.Semaphore:
        """Returns a semaphore object"""
        from .synchronize import Semaphore

        return Semaphore(value, ctx=self.get_context())

    def BoundedSemaphore(self, value: int = 1) -> synchronize.BoundedSemaphore:
        """Returns a bounded semaphore object"""
        from .synchronize import BoundedSemaphore

        return BoundedSemaphore(value, ctx=self.get_context())

    def Event(self) -> synchronize.Event:
        """Returns an event object"""
        from .synchronize import Event

        return Event(ctx=self.get_context())

    def Barrier(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
    ) -> synchronize.Barrier:
        """Returns a barrier object"""
        from .synchronize import Barrier

        return Barrier(parties, action, timeout, ctx=self.get_context())

    def Queue(self, maxsize: int = 0, *, strict: bool = False) -> queues.Queue[Any]:
        """Returns a queue object"""
        from .queues import Queue

        return Queue(maxsize, ctx=self.get_context(), strict=strict)  # type: ignore[call-arg]

    def JoinableQueue(self, maxsize: int = 0, *, strict: bool = False) -> queues.JoinableQueue[Any]:
        """Returns a queue object"""
        from .queues import JoinableQueue

        return JoinableQueue(maxsize, ctx=self.get_context(), strict=strict)

    def SimpleQueue(self) -> queues.SimpleQueue[Any]:
        """Returns a queue object"""
        from .queues import SimpleQueue

        return SimpleQueue(ctx=self.get_context())

    def Pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> pool.Pool:
        """Returns a process pool object"""
        from .pool import Pool

        return Pool(processes, initializer, initargs, maxtasksperchild, context=self.get_context())

    def RawValue(self, typecode_or_type: str | type, *args: Any) -> Any:
        """Returns a shared object"""
        from .sharedctypes import RawValue

        return RawValue(typecode_or_type, *args)

    def RawArray(
        self, typecode_or_type: str | type, size_or_initializer: int | Sequence[Any]
    ) -> Any:
        """Returns a shared array"""
        from .sharedctypes import RawArray

        return RawArray(typecode_or_type, size_or_initializer)

    def Value(self, typecode_or_type: str | type, *args: Any, lock: Any = True) -> Any:
        """Returns a synchronized shared object"""
        from .sharedctypes import Value

        return Value(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    def Array(
        self,
        typecode_or_type: str | type,
        size_or_initializer: int | Sequence[Any],
        *,
        lock: Any = True,
    ) -> Any:
        """Returns a synchronized shared array"""
        from .sharedctypes import Array

        return Array(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context())

    def allow_connection_pickling(self) -> None:
        """Install support for sending connections and sockets
        between processes
        """
        from . import connection  # noqa: F401  (importing it registers the reducers)

    def get_context(self, method: str | None = None) -> Any:
        if method is None:
            return self
        try:
            ctx = _concrete_contexts[method]
        except KeyError:
            raise ValueError(f"cannot find context for {method!r}") from None
        ctx._check_available()
        return ctx


#
# Processes.  `_Popen` of the three concrete classes is where the launcher is chosen.
#


class _Launchers(dict):
    """The launchers' Popen classes, each loaded when it is first asked for."""

    def __missing__(self, method):
        launcher = import_module(f".launch_{method}", __package__)
        return self.setdefault(method, launcher.Popen)


_launchers = _Launchers()


class _Interruptible:
    """`interrupt()` for the Pythons whose BaseProcess lacks it (before 3.14)."""

    if not hasattr(process.BaseProcess, "interrupt"):

        def interrupt(self) -> None:
            """
            Terminate process; sends SIGINT signal
            """
            self._check_closed()
            popen = self._popen
            if hasattr(popen, "interrupt"):
                popen.interrupt()
            else:
                popen._send_signal(_signal.SIGINT)


class Process(_Interruptible, _original.Process):
    @staticmethod
    def _Popen(process_obj):
        return _default_context.get_context().Process._Popen(process_obj)

    @staticmethod
    def _after_fork():
        return _default_context.get_context().Process._after_fork()


class ForkProcess(_Interruptible, _original.ForkProcess):
    @staticmethod
    def _Popen(process_obj):
        return _launchers["fork"](process_obj)


class SpawnProcess(_Interruptible, _original.SpawnProcess):
    @staticmethod
    def _Popen(process_obj):
        return _launchers["spawn"](process_obj)


class ForkServerProcess(_Interruptible, _original.ForkServerProcess):
    @staticmethod
    def _Popen(process_obj):
        return _launchers["forkserver"](process_obj)


#
# Contexts with a fixed start method, and the table of all contexts
#


class ForkContext(BaseContext, _original.ForkContext):
    Process = ForkProcess


class SpawnContext(BaseContext, _original.SpawnContext):
    Process = SpawnProcess


class ForkServerContext(BaseContext, _original.ForkServerContext):
    Process = ForkServerProcess


_NATIVE = {"fork": ForkContext(), "spawn": SpawnContext(), "forkserver": ForkServerContext()}

# The stdlib's context objects and their counterparts here, by identity and both ways.
_OURS = {id(_original._concrete_contexts[name]): ctx for name, ctx in _NATIVE.items()}
_THEIRS = {id(ctx): _original._concrete_contexts[name] for name, ctx in _NATIVE.items()}


def _ours(ctx):
    """The counterpart of a stdlib context; any other context (loky's, None) is itself."""
    return _OURS.get(id(ctx), ctx)


def _theirs(ctx):
    """The stdlib's context that stands for *ctx* in the stdlib's state."""
    return _THEIRS.get(id(ctx), ctx)


class _ConcreteContexts(MutableMapping):
    """The stdlib's table of contexts, read and written through, with fastmp's in their places."""

    def __getitem__(self, method):
        return _ours(_original._concrete_contexts[method])

    def __setitem__(self, method, ctx):
        _original._concrete_contexts[method] = _theirs(ctx)

    def __delitem__(self, method):
        del _original._concrete_contexts[method]

    def __iter__(self):
        return iter(_original._concrete_contexts)

    def __len__(self):
        return len(_original._concrete_contexts)


_concrete_contexts = _ConcreteContexts()


class DefaultContext(_original.DefaultContext, BaseContext):
    """The context whose start method can be set; its state is a stdlib DefaultContext's."""

    Process = Process

    def __init__(self, context=None):
        self._state = _original.DefaultContext(_theirs(context))

    @property
    def _default_context(self):
        return _ours(self._state._default_context)

    @_default_context.setter
    def _default_context(self, ctx):
        self._state._default_context = _theirs(ctx)

    @_default_context.deleter
    def _default_context(self):
        del self._state._default_context

    @property
    def _actual_context(self):
        return _ours(self._state._actual_context)

    @_actual_context.setter
    def _actual_context(self, ctx):
        self._state._actual_context = _theirs(ctx)


_default_context = DefaultContext(None)
_default_context._state = _original._default_context


def _force_start_method(method):
    _original._force_start_method(method)


_std.inherit(globals())
del globals()["reduction"]


def __getattr__(name):
    # Read live: setting a context's `reducer` replaces it in the stdlib's module.
    if name == "reduction":
        return _original.reduction
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*globals(), "reduction"]
