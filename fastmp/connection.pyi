"""Types of fastmp.connection: typeshed's connections under fastmp's names."""

from multiprocessing import connection as _original
from multiprocessing.connection import _Address
from multiprocessing.connection import _ConnectionBase as _ConnectionBase
from multiprocessing.connection import answer_challenge as answer_challenge
from multiprocessing.connection import deliver_challenge as deliver_challenge
from multiprocessing.connection import wait as wait
from typing import Any

from typing_extensions import TypeVar

__all__ = ["Client", "Listener", "Pipe", "wait"]

_SendT_contra = TypeVar("_SendT_contra", contravariant=True, default=Any)
_RecvT_co = TypeVar("_RecvT_co", covariant=True, default=Any)

class Connection(_original.Connection[_SendT_contra, _RecvT_co]): ...

class Listener(_original.Listener):
    def accept(self) -> Connection[Any, Any]: ...

def Pipe(duplex: bool = True) -> tuple[Connection[Any, Any], Connection[Any, Any]]: ...
def Client(
    address: _Address, family: str | None = None, authkey: bytes | None = None
) -> Connection[Any, Any]: ...
