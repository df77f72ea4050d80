"""Types of fastmp.context: typeshed's contexts, whose methods make fastmp's objects.

Overloads are typeshed's word for word, with fastmp's classes for what they return: what is accepted
of one package is accepted of the other.
"""

from collections.abc import Callable, Iterable, Sequence
from ctypes import _CData, _SimpleCData, c_char
from multiprocessing import context as _original
from multiprocessing.context import AuthenticationError as AuthenticationError
from multiprocessing.context import BufferTooShort as BufferTooShort
from multiprocessing.context import ProcessError as ProcessError
from multiprocessing.context import TimeoutError as TimeoutError
from multiprocessing.context import assert_spawning as assert_spawning
from multiprocessing.context import get_spawning_popen as get_spawning_popen
from multiprocessing.context import set_spawning_popen as set_spawning_popen
from multiprocessing.synchronize import _LockLike
from typing import Any, ClassVar, Literal, TypeVar, overload

from . import connection, queues, synchronize
from .pool import Pool as _Pool
from .sharedctypes import Synchronized, SynchronizedArray, SynchronizedString

__all__ = ()

_T = TypeVar("_T")
_CT = TypeVar("_CT", bound=_CData)

class BaseContext(_original.BaseContext):
    def Pipe(
        self, duplex: bool = True
    ) -> tuple[connection.Connection[Any, Any], connection.Connection[Any, Any]]: ...
    def Barrier(
        self,
        parties: int,
        action: Callable[..., object] | None = None,
        timeout: float | None = None,
    ) -> synchronize.Barrier: ...
    def BoundedSemaphore(self, value: int = 1) -> synchronize.BoundedSemaphore: ...
    def Condition(self, lock: _LockLike | None = None) -> synchronize.Condition: ...
    def Event(self) -> synchronize.Event: ...
    def Lock(self, *, robust: bool = False) -> synchronize.Lock: ...
    def RLock(self) -> synchronize.RLock: ...
    def Semaphore(self, value: int = 1) -> synchronize.Semaphore: ...
    def Queue(self, maxsize: int = 0, *, strict: bool = False) -> queues.Queue[Any]: ...
    def JoinableQueue(
        self, maxsize: int = 0, *, strict: bool = False
    ) -> queues.JoinableQueue[Any]: ...
    def SimpleQueue(self) -> queues.SimpleQueue[Any]: ...
    def Pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> _Pool: ...
    @overload
    def Value(
        self,
        typecode_or_type: type[_SimpleCData[_T]],
        *args: Any,
        lock: Literal[True] | _LockLike = True,
    ) -> Synchronized[_T]: ...
    @overload
    def Value(
        self, typecode_or_type: type[_CT], *args: Any, lock: Literal[False]
    ) -> Synchronized[_CT]: ...
    @overload
    def Value(
        self, typecode_or_type: type[_CT], *args: Any, lock: Literal[True] | _LockLike = True
    ) -> Synchronized[_CT]: ...
    @overload
    def Value(
        self, typecode_or_type: str, *args: Any, lock: Literal[True] | _LockLike = True
    ) -> Synchronized[Any]: ...
    @overload
    def Value(
        self, typecode_or_type: str | type[_CData], *args: Any, lock: bool | _LockLike = True
    ) -> Any: ...
    @overload
    def Array(
        self,
        typecode_or_type: type[_SimpleCData[_T]],
        size_or_initializer: int | Sequence[Any],
        *,
        lock: Literal[False],
    ) -> SynchronizedArray[_T]: ...
    @overload
    def Array(
        self,
        typecode_or_type: type[c_char],
        size_or_initializer: int | Sequence[Any],
        *,
        lock: Literal[True] | _LockLike = True,
    ) -> SynchronizedString: ...
    @overload
    def Array(
        self,
        typecode_or_type: type[_SimpleCData[_T]],
        size_or_initializer: int | Sequence[Any],
        *,
        lock: Literal[True] | _LockLike = True,
    ) -> SynchronizedArray[_T]: ...
    @overload
    def Array(
        self,
        typecode_or_type: str,
        size_or_initializer: int | Sequence[Any],
        *,
        lock: Literal[True] | _LockLike = True,
    ) -> SynchronizedArray[Any]: ...
    @overload
    def Array(
        self,
        typecode_or_type: str | type[_CData],
        size_or_initializer: int | Sequence[Any],
        *,
        lock: bool | _LockLike = True,
    ) -> Any: ...
    @overload
    def get_context(self, method: None = None) -> DefaultContext: ...
    @overload
    def get_context(self, method: Literal["spawn"]) -> SpawnContext: ...
    @overload
    def get_context(self, method: Literal["fork"]) -> ForkContext: ...
    @overload
    def get_context(self, method: Literal["forkserver"]) -> ForkServerContext: ...
    @overload
    def get_context(self, method: str) -> BaseContext: ...

class Process(_original.Process):
    def interrupt(self) -> None: ...  # in the stdlib since 3.14

class ForkProcess(_original.ForkProcess):
    def interrupt(self) -> None: ...

class SpawnProcess(_original.SpawnProcess):
    def interrupt(self) -> None: ...

class ForkServerProcess(_original.ForkServerProcess):
    def interrupt(self) -> None: ...

class ForkContext(BaseContext, _original.ForkContext):
    Process: ClassVar[type[ForkProcess]]

class SpawnContext(BaseContext, _original.SpawnContext):
    Process: ClassVar[type[SpawnProcess]]

class ForkServerContext(BaseContext, _original.ForkServerContext):
    Process: ClassVar[type[ForkServerProcess]]

class DefaultContext(_original.DefaultContext, BaseContext):
    Process: ClassVar[type[Process]]
    def __init__(self, context: BaseContext | None = None) -> None: ...

_default_context: DefaultContext

def _force_start_method(method: str) -> None: ...
