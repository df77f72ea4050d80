"""What a process of a storm writes down, in files: a SIGKILL loses nothing that was written.

Nothing here uses fastmp, which is what is judged. A ledger is a file of 16 byte records, so a
record never crosses a page and is there whole or not at all.
"""

import mmap
import os
import pickle
import random
import struct
import traceback
import zlib
from collections import deque
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, NamedTuple

_RECORD = struct.Struct("<IIQ")

#: Bytes of a message's payload. Most are small; the large ones make rings grow and copies long.
_SIZES = [0, 1, 30, 200] * 40 + [3_000] * 20 + [70_000] * 2 + [300_000]

#: The same of one message in 2,000, which travels outside of a ring, or fills a pipe by itself.
_LARGE = [(1 << 20) + 4096, 3 << 20]


KEPT = 3  # blocks that a process has received and goes on looking at


class Kind(IntEnum):
    """What a record says; `who` and `number` are the record's two values."""

    STEP = 1  # something was completed
    SENT = 2  # every message below `number` has been put
    GOT = 3  # message `number` of producer `who` was received, whole
    DONE = 4  # task_done() has returned
    REPAIRED = 5  # a lock was had from a dead holder
    LOST = 6  # a task failed with WorkerLostError
    BEGUN = 7  # a pool was made


class Record(NamedTuple):
    """One line of a ledger."""

    kind: int
    who: int
    number: int


class Station:
    """A process's place in a storm: its ledger, its random numbers, the word to stop."""

    def __init__(self, where: str, index: int, seed: int) -> None:
        self.where = where
        self.index = index
        self.random = random.Random(seed * 1_000_003 + index)
        self._kept: deque[Any] = deque()
        self._ledger = os.open(ledger_path(where, index), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._control = open_control(where)

    def stopping(self) -> bool:
        """Whether the storm is over."""
        return self._control[0] != 0

    def record(self, kind: Kind, who: int = 0, number: int = 0) -> None:
        """Write down what has happened."""
        os.write(self._ledger, _RECORD.pack(kind, who, number))

    def check(self, holds: bool, text: str) -> None:
        """Report a violation unless *holds*."""
        if not holds:
            self.fault(text)

    def keep(self, message: tuple[Any, ...]) -> None:
        """Hold a message's block for a while: nobody else may change it. Some are written over."""
        payload = message[2]
        if not isinstance(payload, Block) or len(payload.data) == 0:
            return
        if self.random.random() < 0.2:
            payload.data[:8] = b"mine now"[: len(payload.data)]
            return
        self._kept.append(message)
        if len(self._kept) > KEPT:
            kept = self._kept.popleft()
            self.check(is_whole(kept), f"changed while it was kept: {kept!r:.300}")

    def fault(self, text: str) -> None:
        """Report a violation."""
        with open(os.path.join(self.where, f"{self.index}.fault"), "a") as file:
            file.write(text.rstrip() + "\n")

    def fault_of_exception(self) -> None:
        """Report the exception that is being handled."""
        self.fault(traceback.format_exc())


def ledger_path(where: str, index: int) -> str:
    return os.path.join(where, f"{index}.ledger")


def open_control(where: str) -> mmap.mmap:
    """The page that all processes of a round share: byte 0 is set when the storm is over."""
    with open(os.path.join(where, "control"), "a+b") as file:
        if os.fstat(file.fileno()).st_size == 0:
            file.truncate(mmap.PAGESIZE)
        return mmap.mmap(file.fileno(), mmap.PAGESIZE)


def read(where: str, index: int) -> Iterator[Record]:
    """The records of a process, which may be dead, or may never have begun."""
    try:
        with open(ledger_path(where, index), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return
    whole = len(data) - len(data) % _RECORD.size
    for values in _RECORD.iter_unpack(data[:whole]):
        yield Record(*values)


def size(where: str, index: int) -> int:
    """How far a ledger has grown; 0 when it is not there yet."""
    try:
        return os.stat(ledger_path(where, index)).st_size
    except FileNotFoundError:
        return 0


def faults(where: str, index: int) -> list[str]:
    """The violations that a process has reported."""
    try:
        with open(os.path.join(where, f"{index}.fault")) as file:
            return [file.read().rstrip()]
    except FileNotFoundError:
        return []


class Block:
    """Bytes that are pickled beside the pickle, as an array's are: the taker gets a view."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return Block, (pickle.PickleBuffer(self.data) if protocol >= 5 else bytearray(self.data),)


def make_message(producer: int, number: int, rng: random.Random) -> tuple[Any, ...]:
    """A message that tells when it is not whole, or not what was sent."""
    large = rng.random() < 0.0005
    payload: Any = bytes([(producer * 31 + number) & 0xFF]) * rng.choice(
        _LARGE if large else _SIZES
    )
    checksum = _checksum(producer, number, payload)
    how = rng.random()
    if how < 0.1:
        payload = [payload]  # by pickle
    elif how < 0.2:
        payload = bytearray(payload)
    elif how < (0.7 if large else 0.25):
        payload = Block(bytearray(payload))
    return producer, number, payload, checksum


def is_whole(message: Any) -> bool:
    """Whether what was received is what a `make_message` gave."""
    if not isinstance(message, tuple) or len(message) != 4:
        return False
    producer, number, payload, checksum = message
    if isinstance(payload, list):
        payload = payload[0]
    elif isinstance(payload, Block):
        payload = payload.data
    return checksum == _checksum(producer, number, payload)


def _checksum(producer: int, number: int, payload: Any) -> int:
    return zlib.crc32(payload, producer << 16 ^ number)
