"""Storms over locks and semaphores.

The census: under a scoped lock a counter is never seen half-updated, but by who is told that the
last holder died (`abandoned`) and repairs it; it counts what the ledgers count, give or take one
for each kill. A semaphore never admits more than its value, and has all of it back in the end.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from collections.abc import Iterator
from typing import Any

from tests.support import procs

from .ledger import Kind, Station
from .scenario import Scenario, count, dead
from .storm import Crew

FIRST, SECOND, INSIDE = range(3)  # the cells


def dawdle(station: Station) -> None:
    """Be inside for a while, mostly none."""
    if station.random.random() < 0.1:
        time.sleep(station.random.random() * 0.002)


def add(station: Station, lock: Any, cells: Any, how: str) -> None:
    """Add one to both cells under the lock, again and again."""
    while not station.stopping():
        if how == "acquire":
            lock.acquire()
            try:
                add_once(station, lock, cells)
            finally:
                lock.release()
        elif how == "twice":
            with lock:
                add_once(station, lock, cells, again=lock)
        else:
            with lock:
                add_once(station, lock, cells)
        station.record(Kind.STEP)


def add_once(station: Station, lock: Any, cells: Any, again: Any = None) -> None:
    """What is done inside: first and second cell differ in between."""
    if lock.abandoned:
        station.record(Kind.REPAIRED)
        cells[SECOND] = cells[FIRST]
        cells[INSIDE] = 0
    seen = cells[FIRST], cells[SECOND], cells[INSIDE]
    station.check(seen[0] == seen[1] and seen[2] == 0, f"half-updated, or two inside: {seen}")
    cells[INSIDE] = station.index
    cells[FIRST] += 1
    if again is not None:
        with again:
            dawdle(station)
    else:
        dawdle(station)
    cells[SECOND] += 1
    cells[INSIDE] = 0


class Counter(Scenario):
    """Lock, RLock, Lock(robust=True), and an Array's own lock around a counter."""

    name = "lock"
    roles = ("adder",)
    adders = 6

    def create(self) -> None:
        self.variant = self.random.choice(["Lock", "RLock", "robust Lock", "Array", "Value"])
        self.how = "with"
        self.cells = self.ctx.RawArray("q", 3)
        if self.variant == "Array":
            self.cells = self.ctx.Array("q", 3)
            self.lock = self.cells.get_lock()
        elif self.variant == "Value":
            self.lock = self.ctx.Value("q", 0).get_lock()
        elif self.variant == "RLock":
            self.lock, self.how = self.ctx.RLock(), "twice"
        elif self.variant == "Lock":
            self.lock = self.ctx.Lock()
        else:
            self.lock, self.how = self.ctx.Lock(robust=True), "acquire"

    def cast(self, crew: Crew) -> None:
        for _ in range(self.adders):
            crew.enlist("adder", add, self.lock, self.cells, self.how)

    def audit(self, crew: Crew) -> Iterator[str]:
        steps, deaths = count(crew, Kind.STEP), dead(crew)
        repaired = count(crew, Kind.REPAIRED)
        self.summary = f"{steps} increments, {repaired} takings over"
        if not self.lock.acquire(timeout=5):
            yield "the lock is not free in the end"
            return
        total = self.cells[FIRST]
        if self.lock.abandoned:
            repaired += 1
        elif total != self.cells[SECOND] or self.cells[INSIDE]:
            yield f"half-updated in the end: {list(self.cells)}"
        self.lock.release()
        if not steps <= total <= steps + deaths:
            yield f"the counter is {total} after {steps} increments and {deaths} kills"
        # One who is killed before it has repaired what it took over has written of it, or not.
        if repaired > deaths:
            yield f"{repaired} takings over of {deaths} dead"

    def close(self) -> None:
        del self.lock, self.cells


class Guests:
    """Who is inside, as all see it: a page of pids in a file, under a lock of the kernel's."""

    def __init__(self, station: Station) -> None:
        path = os.path.join(station.where, "guests")
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._fd, 1 << 16)
        self._page = memoryview(mmap.mmap(self._fd, 1 << 16)).cast("q")
        self._index = station.index

    def enter(self) -> int:
        """Be inside; returns how many living are."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self._page[self._index] = os.getpid()
        inside = [pid for pid in self._page if pid]
        if len(inside) > 1:
            inside = [pid for pid in inside if procs.runs(pid)]
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        return len(inside)

    def leave(self) -> None:
        """Be outside."""
        self._page[self._index] = 0


def visit(station: Station, semaphore: Any, value: int) -> None:
    """Go in and out of a semaphore by `with`."""
    guests = Guests(station)
    while not station.stopping():
        with semaphore:
            inside = guests.enter()
            station.check(inside <= value, f"{inside} inside a semaphore of {value}")
            dawdle(station)
            guests.leave()
        station.record(Kind.STEP)


class Semaphore(Scenario):
    """Semaphore and BoundedSemaphore: what the dead had comes back, exactly once."""

    name = "semaphore"
    roles = ("visitor",)

    def create(self) -> None:
        self.value = self.random.choice([1, 2, 3])
        bounded = self.random.random() < 0.5
        make = self.ctx.BoundedSemaphore if bounded else self.ctx.Semaphore
        self.semaphore = make(self.value)
        self.variant = f"{'bounded, ' if bounded else ''}of {self.value}"

    def cast(self, crew: Crew) -> None:
        for _ in range(6):
            crew.enlist("visitor", visit, self.semaphore, self.value)

    def audit(self, crew: Crew) -> Iterator[str]:
        self.summary = f"{count(crew, Kind.STEP)} visits"
        got = 0
        while got <= self.value and self.semaphore.acquire(timeout=1):
            got += 1
        if got != self.value:
            yield f"{got} of {self.value} units are there in the end"
        for _ in range(got):
            self.semaphore.release()

    def close(self) -> None:
        del self.semaphore
