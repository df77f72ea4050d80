"""Types of fastmp.queues: typeshed's queues, and what fastmp adds to them."""

from collections.abc import Iterable
from multiprocessing import queues as _original
from queue import Empty as Empty
from queue import Full as Full
from typing import Any, SupportsIndex, TypeVar

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]

_T = TypeVar("_T")

# `ctx` is required; optional here as in typeshed, whose package has these classes for the names
# under which the context's methods are called.
#
# What is added is of the objects that `Queue(...)` gives: a subclass is the stdlib's at run time.

class Queue(_original.Queue[_T]):
    def __init__(self, maxsize: int = 0, *, ctx: Any = ..., strict: bool = False) -> None: ...
    def put_many(
        self, iterable: Iterable[_T], block: bool = True, timeout: float | None = None
    ) -> int: ...
    def get_many(self, max_items: SupportsIndex, timeout: float | None = None) -> list[_T]: ...

class JoinableQueue(Queue[_T], _original.JoinableQueue[_T]): ...

class SimpleQueue(_original.SimpleQueue[_T]):
    def __init__(self, *, ctx: Any = ...) -> None: ...
