"""Storms over pools and managers.

The census of a pool: each task ends in bounded time with its result, in its place, or with
WorkerLostError; no more of those than workers were killed; a pool whose owner was killed leaves no
worker behind. A manager's clients: as for queues, and each finds what it has stored.
"""

from __future__ import annotations

import faulthandler
import math
import os
import time
from collections.abc import Iterator
from typing import Any

import fastmp
from fastmp import WorkerLostError
from tests.support import procs

from .channels import audit_messages, consume, produce
from .ledger import Kind, Station
from .scenario import Scenario, count, dead
from .storm import BOUND, Crew

WORKERS = 3


def work(x: int) -> tuple[int, bytes]:
    """A task: sometimes slow, sometimes with a large result."""
    if x % 7 == 0:
        time.sleep(0.003)
    return x * x, bytes([x & 0xFF]) * (100_000 if x % 97 == 0 else x % 50)


def is_right(x: int, result: Any) -> bool:
    return bool(result == (x * x, bytes([x & 0xFF]) * (100_000 if x % 97 == 0 else x % 50)))


def own_a_pool(station: Station, method: str) -> None:
    """Have one pool after the other, and give it jobs of all kinds, until the storm is over."""
    ctx = fastmp.get_context(method)
    start = 0
    while not station.stopping():
        pool = ctx.Pool(WORKERS, maxtasksperchild=station.random.choice([None, None, 10]))
        station.record(Kind.BEGUN)
        jobs = station.random.randint(1, 150)
        while not station.stopping() and jobs:
            jobs -= 1
            tasks = list(range(start, start + station.random.randint(1, 40)))
            start += len(tasks)
            try:
                station.random.choice(KINDS)(station, pool, tasks)
            except fastmp.TimeoutError:
                station.fault(f"no result within {BOUND:g} s: {pool!r}")
                with open(os.path.join(station.where, f"{station.index}.fault"), "a") as file:
                    faulthandler.dump_traceback(file)
                return
        end(station, pool)


def end(station: Station, pool: Any) -> None:
    """End the pool: when its work is done, or in the middle of it."""
    began = time.monotonic()
    if station.random.random() < 0.5:
        how = "close()"
        pool.close()
    else:
        how = "terminate()"
        pool.map_async(work, range(100))
        pool.terminate()
    pool.join()
    took = time.monotonic() - began
    station.check(took < BOUND / 2, f"{how} and join() took {took:.1f} s")


def collect(station: Station, x: int, get: Any) -> bool:
    """One task's end: True unless its iterator is exhausted."""
    try:
        result = get(timeout=BOUND)
    except StopIteration:
        return False
    except WorkerLostError:
        station.record(Kind.LOST)
    else:
        station.check(is_right(x, result), f"task {x} gave {result!r:.100}")
        station.record(Kind.STEP)
    return True


def map_tasks(station: Station, pool: Any, tasks: list[int]) -> None:
    """map(): all, or the first that was lost."""
    try:
        results = pool.map_async(work, tasks, station.random.choice([None, 1, 5])).get(BOUND)
    except WorkerLostError:
        station.record(Kind.LOST)
        return
    station.check(len(results) == len(tasks), f"{len(results)} results of {len(tasks)} tasks")
    for x, result in zip(tasks, results, strict=False):
        station.check(is_right(x, result), f"task {x} gave {result!r:.100}")
        station.record(Kind.STEP)


def imap_tasks(station: Station, pool: Any, tasks: list[int]) -> None:
    """imap(): each in its place; what is lost does not stop the others."""
    results = pool.imap(work, tasks)
    for x in tasks:
        if not collect(station, x, results.next):
            station.fault(f"imap() ended before task {x} of {tasks}")
            return
    station.check(not collect(station, 0, results.next), "imap() gave more than there were tasks")


def apply_tasks(station: Station, pool: Any, tasks: list[int]) -> None:
    """apply_async(), all at once."""
    for x, result in [(x, pool.apply_async(work, (x,))) for x in tasks]:
        collect(station, x, result.get)


def imap_unordered_tasks(station: Station, pool: Any, tasks: list[int]) -> None:
    """imap_unordered(): each exactly once, or lost."""
    results = pool.imap_unordered(work, tasks)
    waited_for = set(tasks)
    lost = 0
    while True:
        try:
            result = results.next(timeout=BOUND)
        except StopIteration:
            break
        except WorkerLostError:
            lost += 1
            station.record(Kind.LOST)
            continue
        x = math.isqrt(result[0])
        station.check(x in waited_for and is_right(x, result), f"{result!r:.100} of {waited_for}")
        waited_for.discard(x)
        station.record(Kind.STEP)
    station.check(len(waited_for) == lost, f"without a result: {waited_for}, lost: {lost}")


def cancel_tasks(station: Station, pool: Any, tasks: list[int]) -> None:
    """apply_async(), and every third is cancelled at some time: that one ends, no other."""
    results = [pool.apply_async(work, (x,)) for x in tasks]
    ended = set()
    for x, result in zip(tasks, results, strict=True):
        if station.random.random() < 0.3:
            time.sleep(station.random.random() * 0.002)
            if result.cancel():
                ended.add(x)
    for x, result in zip(tasks, results, strict=True):
        try:
            collect(station, x, result.get)
            station.check(x not in ended, f"task {x} was cancelled and has a result")
        except fastmp.TaskCancelledError:
            station.check(x in ended, f"task {x} was not cancelled")
            station.record(Kind.STEP)


KINDS = [map_tasks, imap_tasks, imap_unordered_tasks, apply_tasks, cancel_tasks]


class Pool(Scenario):
    """Pools in processes of their own: workers are killed, and now and then an owner."""

    name = "pool"
    roles = ("owner", "worker")

    def cast(self, crew: Crew) -> None:
        for _ in range(2):
            crew.enlist("owner", own_a_pool, self.ctx.get_start_method())

    def victims(self, crew: Crew, roles: set[str] | None) -> list[tuple[int, procs.Proc]]:
        victims: list[tuple[int, procs.Proc]] = []
        if roles is None or "worker" in roles:
            everybody = procs.scan()
            for owner in crew.living():
                victims += [(0, proc) for proc in self.workers(owner.process.pid, everybody)]
        if (roles is None or "owner" in roles) and self.random.random() < 0.1:
            victims += super().victims(crew, {"owner"})
        return victims

    def workers(self, owner: int, everybody: dict[int, procs.Proc]) -> list[procs.Proc]:
        """An owner's workers: children of it, or of its forkserver."""
        children = [proc for proc in everybody.values() if proc.ppid == owner]
        if self.ctx.get_start_method() == "forkserver":
            servers = {proc.pid for proc in children}
            children = [proc for proc in everybody.values() if proc.ppid in servers]
        return [proc for proc in children if proc.state != "Z" and not procs.is_tracker(proc.pid)]

    def audit(self, crew: Crew) -> Iterator[str]:
        lost = count(crew, Kind.LOST)
        self.summary = f"{count(crew, Kind.STEP)} results, {lost} WorkerLostError"
        if lost > crew.others_killed:
            yield f"{lost} tasks failed of {crew.others_killed} workers that were killed"


def use_a_dict(station: Station, stored: Any) -> None:
    """Store numbers and find them again."""
    number = 0
    while not station.stopping():
        number += 1
        stored[station.index] = number
        station.record(Kind.STEP, 0, number)
        found = stored[station.index]
        station.check(found == number, f"stored {number}, found {found}")
        time.sleep(0.001)


class Manager(Scenario):
    """A manager's dict and queue; the server is stopped now and then, its clients are killed."""

    name = "manager"
    roles = ("client", "producer", "consumer")

    def create(self) -> None:
        self.manager = self.ctx.Manager()
        self.server = procs.read(self.manager._process.pid)
        self.stored = self.manager.dict()
        self.queue = self.manager.Queue()

    def cast(self, crew: Crew) -> None:
        for _ in range(2):
            crew.enlist("client", use_a_dict, self.stored)
            crew.enlist("producer", produce, self.queue, 1)
            crew.enlist("consumer", consume, self.queue, 1, False)

    def victims(self, crew: Crew, roles: set[str] | None) -> list[tuple[int, procs.Proc]]:
        victims = super().victims(crew, roles)
        if roles is None and self.server is not None:
            victims.append((0, self.server))
        return victims

    def finish(self, crew: Crew) -> None:
        crew.wait(crew.living("client", "producer"))
        deadline = time.monotonic() + BOUND
        while crew.living() and time.monotonic() < deadline:
            if self.queue.empty():  # a dead client's call in the server may have taken one
                self.queue.put(None)
            crew.reap()
            time.sleep(0.01)

    def audit(self, crew: Crew) -> Iterator[str]:
        violations, self.summary = audit_messages(crew, dead(crew, "consumer"), 1)
        yield from violations
        stored = self.stored.copy()
        steps = count(crew, Kind.STEP)
        self.summary += f", {steps} items stored"
        if not steps <= sum(stored.values()) <= steps + dead(crew, "client"):
            yield f"{sum(stored.values())} items in the dict, {steps} were stored"

    def close(self) -> None:
        self.manager.shutdown()
        del self.manager, self.stored, self.queue
