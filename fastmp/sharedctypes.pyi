"""Types of fastmp.sharedctypes: typeshed's wrappers, which here have the buffer protocol.

The overloads are those of typeshed's ``BaseContext.Value`` and ``Array``, so that a function and
the method of its name give the same.
"""

import ctypes
from collections.abc import Sequence
from ctypes import _CData, _SimpleCData, c_char
from multiprocessing import sharedctypes as _original
from multiprocessing.context import BaseContext
from multiprocessing.sharedctypes import RawArray as RawArray
from multiprocessing.sharedctypes import RawValue as RawValue
from multiprocessing.sharedctypes import copy as copy
from multiprocessing.synchronize import _LockLike
from typing import Any, Generic, Literal, TypeVar, overload

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]

_T = TypeVar("_T")
_CT = TypeVar("_CT", bound=_CData)

@overload
def Value(
    typecode_or_type: type[_CT], *args: Any, lock: Literal[False], ctx: BaseContext | None = None
) -> _CT: ...
@overload
def Value(
    typecode_or_type: type[_SimpleCData[_T]],
    *args: Any,
    lock: Literal[True] | _LockLike = True,
    ctx: BaseContext | None = None,
) -> Synchronized[_T]: ...
@overload
def Value(
    typecode_or_type: type[_CT],
    *args: Any,
    lock: Literal[True] | _LockLike = True,
    ctx: BaseContext | None = None,
) -> SynchronizedBase[_CT]: ...
@overload
def Value(
    typecode_or_type: str,
    *args: Any,
    lock: Literal[True] | _LockLike = True,
    ctx: BaseContext | None = None,
) -> Synchronized[Any]: ...
@overload
def Value(
    typecode_or_type: str | type[_CData],
    *args: Any,
    lock: bool | _LockLike = True,
    ctx: BaseContext | None = None,
) -> Any: ...
@overload
def Array(
    typecode_or_type: type[_CT],
    size_or_initializer: int | Sequence[Any],
    *,
    lock: Literal[False],
    ctx: BaseContext | None = None,
) -> ctypes.Array[_CT]: ...
@overload
def Array(
    typecode_or_type: type[c_char],
    size_or_initializer: int | Sequence[Any],
    *,
    lock: Literal[True] | _LockLike = True,
    ctx: BaseContext | None = None,
) -> SynchronizedString: ...
@overload
def Array(
    typecode_or_type: type[_SimpleCData[_T]],
    size_or_initializer: int | Sequence[Any],
    *,
    lock: Literal[True] | _LockLike = True,
    ctx: BaseContext | None = None,
) -> SynchronizedArray[_T]: ...
@overload
def Array(
    typecode_or_type: str,
    size_or_initializer: int | Sequence[Any],
    *,
    lock: Literal[True] | _LockLike = True,
    ctx: BaseContext | None = None,
) -> SynchronizedArray[Any]: ...
@overload
def Array(
    typecode_or_type: str | type[_CData],
    size_or_initializer: int | Sequence[Any],
    *,
    lock: bool | _LockLike = True,
    ctx: BaseContext | None = None,
) -> Any: ...
@overload
def synchronized(
    obj: _SimpleCData[_T], lock: _LockLike | None = None, ctx: Any | None = None
) -> Synchronized[_T]: ...
@overload
def synchronized(
    obj: ctypes.Array[c_char], lock: _LockLike | None = None, ctx: Any | None = None
) -> SynchronizedString: ...
@overload
def synchronized(
    obj: ctypes.Array[_SimpleCData[_T]], lock: _LockLike | None = None, ctx: Any | None = None
) -> SynchronizedArray[_T]: ...
@overload
def synchronized(
    obj: _CT, lock: _LockLike | None = None, ctx: Any | None = None
) -> SynchronizedBase[_CT]: ...

class SynchronizedBase(_original.SynchronizedBase[_CT]):
    def __buffer__(self, flags: int, /) -> memoryview: ...

class Synchronized(SynchronizedBase[_SimpleCData[_T]], _original.Synchronized[_T], Generic[_T]): ...

class SynchronizedArray(
    SynchronizedBase[ctypes.Array[_SimpleCData[_T]]], _original.SynchronizedArray[_T], Generic[_T]
):
    def __bytes__(self) -> bytes: ...

class SynchronizedString(SynchronizedArray[bytes], _original.SynchronizedString): ...
