"""Storms over conditions, events and barriers.

The census: no waiter sleeps when there is something for it, whoever else was killed; tokens under a
condition count up; nobody passes a barrier before all parties have come.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from . import ledger
from .ledger import Kind, Station
from .scenario import Scenario, count, dead
from .storm import BOUND, Crew, Member

TOKENS, OVER = range(2)  # the cells of a condition


def inherit(station: Station, condition: Any, lock: Any) -> None:
    """Who has the lock from a dead process does what that still had to do: to notify."""
    if lock.abandoned:
        station.record(Kind.REPAIRED)
        condition.notify_all()


def give(station: Station, condition: Any, lock: Any, cells: Any, most: int) -> None:
    """Make tokens, one notification each, while there are fewer than so many."""
    while not station.stopping():
        with condition:
            inherit(station, condition, lock)
            given = cells[TOKENS] < most
            if given:
                cells[TOKENS] += 1
                condition.notify()
        if given:
            station.record(Kind.SENT)
        while cells[TOKENS] >= most and not station.stopping():
            time.sleep(0.001)


def take(station: Station, condition: Any, lock: Any, cells: Any) -> None:
    """Take tokens; without any, wait for ever."""
    while True:
        with condition:
            inherit(station, condition, lock)
            while not cells[TOKENS]:
                if cells[OVER]:
                    return
                condition.wait()
                inherit(station, condition, lock)
            cells[TOKENS] -= 1
        station.record(Kind.GOT)


class Condition(Scenario):
    """Condition: each token is notified once, so a notification lost is a token left.

    With one token at a time no later notification can make good for one that was lost; only
    who comes anew can.
    """

    name = "condition"
    roles = ("giver", "taker")

    def create(self) -> None:
        self.lock = self.ctx.RLock()
        self.condition = self.ctx.Condition(self.lock)
        self.cells = self.ctx.RawArray("q", 2)
        self.most = self.random.choice([1, 50])
        self.variant = f"up to {self.most} tokens"

    def cast(self, crew: Crew) -> None:
        shared = self.condition, self.lock, self.cells
        for _ in range(4):
            crew.enlist("taker", take, *shared)
        for _ in range(3):
            crew.enlist("giver", give, *shared, self.most)

    def finish(self, crew: Crew) -> None:
        crew.wait(crew.living("giver"))
        with self.condition:
            if self.lock.abandoned:
                self.condition.notify_all()
        deadline = time.monotonic() + BOUND / 2
        while self.cells[TOKENS] and time.monotonic() < deadline:
            time.sleep(0.005)
        if self.cells[TOKENS]:
            crew.violations.append(
                f"{self.cells[TOKENS]} tokens, and all who wait for them sleep\n"
                + crew.stacks(crew.living())
            )
        with self.condition:
            self.cells[OVER] = 1
            self.condition.notify_all()
        crew.wait(crew.living())

    def audit(self, crew: Crew) -> Iterator[str]:
        given, taken = count(crew, Kind.SENT), count(crew, Kind.GOT)
        self.summary = f"{given} tokens, {count(crew, Kind.REPAIRED)} takings over"
        givers, takers = dead(crew, "giver"), dead(crew, "taker")
        if not given - takers <= taken <= given + givers:
            yield f"{taken} of {given} tokens taken; killed: {givers} givers, {takers} takers"

    def close(self) -> None:
        del self.lock, self.condition, self.cells


def set_and_clear(station: Station, event: Any) -> None:
    """Set the event and clear it at once: all who wait there and then are to wake."""
    while not station.stopping():
        event.set()
        event.clear()
        station.record(Kind.STEP)
        time.sleep(station.random.random() * 0.002)


def await_event(station: Station, event: Any) -> None:
    """Wait for the event, without an end."""
    while not station.stopping():
        event.wait()
        station.record(Kind.GOT)


class Event(Scenario):
    """Event: set() followed by clear() releases all who wait, dead waiters or not."""

    name = "event"
    roles = ("setter", "waiter")

    def create(self) -> None:
        self.event = self.ctx.Event()

    def cast(self, crew: Crew) -> None:
        for _ in range(5):
            crew.enlist("waiter", await_event, self.event)
        for _ in range(2):
            crew.enlist("setter", set_and_clear, self.event)

    def finish(self, crew: Crew) -> None:
        self.event.set()
        # A setter may have cleared it again: it was stopped in between.
        crew.wait(crew.living("setter"))
        self.event.set()
        crew.wait(crew.living())

    def audit(self, crew: Crew) -> Iterator[str]:
        self.summary = f"set {count(crew, Kind.STEP)} times, waited {count(crew, Kind.GOT)} times"
        if not self.event.is_set():
            yield "the event is not set in the end"

    def close(self) -> None:
        del self.event


PARTIES = 3
ARRIVED, INDICES = 0, PARTIES


def meet(station: Station, barrier: Any, page_name: str, me: int) -> None:
    """Pass the barrier until it breaks, and see that nobody does so early."""
    with open(os.path.join(station.where, page_name), "r+b") as file:
        page = memoryview(mmap.mmap(file.fileno(), mmap.PAGESIZE)).cast("q")
    rounds = 0
    while True:
        rounds += 1
        page[me] = rounds
        try:
            barrier.wait()
        except threading.BrokenBarrierError:
            return
        arrived = list(page[:PARTIES])
        station.check(min(arrived) >= rounds, f"through in round {rounds}, arrived: {arrived}")
        station.record(Kind.STEP)


class Barrier(Scenario):
    """Barrier: a party that is killed breaks it for the others, who start anew together."""

    name = "barrier"
    roles = ("party",)
    groups = 2
    #: A party killed outside the barrier does not break it: then, after so long, the parent does.
    patience = 1.0

    def create(self) -> None:
        self.group: dict[int, list[Member]] = {}
        self.barriers: dict[int, Any] = {}
        self.due: dict[int, float] = {}
        self.broken_by_parent = 0

    def cast(self, crew: Crew) -> None:
        for _ in range(self.groups):
            self.gather(crew)

    def gather(self, crew: Crew) -> None:
        barrier = self.ctx.Barrier(PARTIES)
        name = f"barrier-{len(crew.members)}"
        with open(os.path.join(crew.where, name), "wb") as file:
            file.truncate(mmap.PAGESIZE)
        group = [crew.enlist("party", meet, barrier, name, me) for me in range(PARTIES)]
        for member in group:
            member.args = ()
            self.group[member.index] = group
            self.barriers[member.index] = barrier

    def replace(self, crew: Crew, member: Member) -> None:
        group = self.group[member.index]
        if member.index not in self.barriers:
            return  # found dead together with the last of its group, which has its successors
        if all(other.exitcode is not None for other in group):
            for other in group:
                del self.barriers[other.index]
                self.due.pop(other.index, None)
            self.gather(crew)
        elif member.killed:
            self.due[member.index] = time.monotonic() + self.patience

    def tend(self, crew: Crew) -> None:
        for index, due in list(self.due.items()):
            if time.monotonic() > due:
                del self.due[index]
                self.broken_by_parent += not self.barriers[index].broken
                self.barriers[index].abort()

    def finish(self, crew: Crew) -> None:
        for barrier in self.barriers.values():
            barrier.abort()
        crew.wait(crew.living())

    def audit(self, crew: Crew) -> Iterator[str]:
        steps = count(crew, Kind.STEP)
        self.summary = f"passed {steps} times, {self.broken_by_parent} broken from outside"
        passed = {
            member.index: sum(1 for _ in ledger.read(crew.where, member.index))
            for member in crew.members
        }
        for group in {id(group): group for group in self.group.values()}.values():
            rounds = [passed[member.index] for member in group]
            # The dead may not have written down the last one; one may fail who came too late.
            if max(rounds) - min(rounds) > 1:
                yield f"a group's parties passed {rounds} times"

    def close(self) -> None:
        self.barriers.clear()
