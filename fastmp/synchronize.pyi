"""Types of fastmp.synchronize: typeshed's locks, and what fastmp adds to them."""

from multiprocessing import synchronize as _original
from multiprocessing.context import BaseContext

__all__ = ["BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]

RECURSIVE_MUTEX: int
SEMAPHORE: int
SEM_VALUE_MAX: int

class SemLock(_original.SemLock):
    def locked(self) -> bool: ...  # in the stdlib since 3.14

class Lock(SemLock, _original.Lock):
    def __init__(self, *, ctx: BaseContext | None = None, robust: bool = False) -> None: ...
    @property
    def abandoned(self) -> bool: ...

class RLock(SemLock, _original.RLock):
    def __init__(self, *, ctx: BaseContext) -> None: ...
    @property
    def abandoned(self) -> bool: ...

class Semaphore(SemLock, _original.Semaphore):
    def __init__(self, value: int = 1, *, ctx: BaseContext) -> None: ...

class BoundedSemaphore(Semaphore, _original.BoundedSemaphore): ...
class Condition(_original.Condition): ...
class Event(_original.Event): ...
class Barrier(_original.Barrier): ...
