"""Types of fastmp.pool: typeshed's pools, and what fastmp adds to them."""

from collections.abc import Callable, Generator, Iterable
from multiprocessing import pool as _original
from multiprocessing.pool import CLOSE as CLOSE
from multiprocessing.pool import INIT as INIT
from multiprocessing.pool import RUN as RUN
from multiprocessing.pool import TERMINATE as TERMINATE
from multiprocessing.pool import ApplyResult as ApplyResult
from multiprocessing.pool import AsyncResult as AsyncResult
from multiprocessing.pool import IMapIterator as IMapIterator
from multiprocessing.pool import IMapUnorderedIterator as IMapUnorderedIterator
from multiprocessing.pool import MapResult as MapResult
from typing import SupportsIndex, TypeVar, overload

__all__ = ["Pool", "ThreadPool"]

_S = TypeVar("_S")
_T = TypeVar("_T")

# *buffersize* is of the objects that `Pool(...)` gives: a subclass is the stdlib's at run time.
class Pool(_original.Pool):
    @overload
    def imap(
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = 1,
        *,
        buffersize: None = None,
    ) -> IMapIterator[_T]: ...
    @overload
    def imap(
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = 1,
        *,
        buffersize: SupportsIndex,
    ) -> Generator[_T]: ...
    @overload
    def imap_unordered(
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = 1,
        *,
        buffersize: None = None,
    ) -> IMapIterator[_T]: ...
    @overload
    def imap_unordered(
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = 1,
        *,
        buffersize: SupportsIndex,
    ) -> Generator[_T]: ...

class ThreadPool(_original.ThreadPool, Pool):
    # The stdlib's own: there is no *buffersize*.
    def imap(  # type: ignore[override]
        self, func: Callable[[_S], _T], iterable: Iterable[_S], chunksize: int | None = 1
    ) -> IMapIterator[_T]: ...
    def imap_unordered(  # type: ignore[override]
        self, func: Callable[[_S], _T], iterable: Iterable[_S], chunksize: int | None = 1
    ) -> IMapIterator[_T]: ...
