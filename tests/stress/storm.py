"""The storm: who takes part, and the signals that come upon them.

Everything happens in the main thread of the parent, so a process id is never signalled after it
was given to somebody else, and fork is called without threads.
"""

from __future__ import annotations

import faulthandler
import heapq
import os
import random
import re
import signal
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.support import procs
from tests.support.watchdog import STACKS_SIGNAL

from . import ledger

#: How long a survivor may do nothing, and how long the end of a round may take.
BOUND = 20.0 * float(os.environ.get("FASTMP_WATCHDOG_SCALE", "1"))
#: Of a forked member's stack: what its parent was doing.
BELOW_MEMBER = re.compile(r"(in member_main\n)(  File .*\n)*")
DEADLY = {signal.SIGKILL, signal.SIGTERM}


@dataclass
class Member:
    """A process that takes part: what it is for, what was done to it, how it ended."""

    index: int
    role: str
    process: Any
    args: tuple[Any, ...]
    target: Callable[..., None]
    proc: procs.Proc | None
    signals: set[int] = field(default_factory=set)
    exitcode: int | None = None
    grown: int = 0  # how far its ledger was at `since`
    since: float = 0.0

    @property
    def killed(self) -> bool:
        """Whether it was ended by a signal."""
        return self.exitcode is not None and self.exitcode < 0


def member_main(
    target: Callable[..., None], where: str, index: int, seed: int, args: tuple[Any, ...]
) -> None:
    """What each member runs: *target* with its station."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    stacks = open(os.path.join(where, f"{index}.stacks"), "a")  # noqa: SIM115
    faulthandler.register(STACKS_SIGNAL, file=stacks, all_threads=True)
    warnings.simplefilter("ignore", RuntimeWarning)  # a lock had from a dead process says so
    station = ledger.Station(where, index, seed)
    try:
        target(station, *args)
    except BaseException:
        station.fault_of_exception()


class Crew:
    """All members of a round, dead ones too."""

    def __init__(self, ctx: Any, where: str, seed: int) -> None:
        self.ctx = ctx
        self.where = where
        self.seed = seed
        self.members: list[Member] = []
        self.violations: list[str] = []
        self.longest_pause = 0.0
        self.others_killed = 0  # deadly signals upon processes that members have started
        self._control = ledger.open_control(where)

    def enlist(self, role: str, target: Callable[..., None], *args: Any) -> Member:
        """Start a new member."""
        index = len(self.members) + 1
        process = self.ctx.Process(
            target=member_main, args=(target, self.where, index, self.seed, args)
        )
        process.start()
        member = Member(index, role, process, args, target, procs.read(process.pid))
        member.since = time.monotonic()
        self.members.append(member)
        return member

    def replace(self, member: Member) -> Member:
        """Start another one with the task of a member that is dead."""
        return self.enlist(member.role, member.target, *member.args)

    def living(self, *roles: str) -> list[Member]:
        """Those that have not ended, of the roles named or of all."""
        return [
            member
            for member in self.members
            if member.exitcode is None and (not roles or member.role in roles)
        ]

    def reap(self) -> list[Member]:
        """Those that have ended since the last call. How they ended has to be explained."""
        ended = []
        for member in self.living():
            code = member.process.exitcode
            if code is None:
                continue
            member.exitcode = code
            member.process.join()
            member.process.close()
            ended.append(member)
            if code != 0 and -code not in member.signals & DEADLY:
                self.violations.append(f"{member.role} {member.index} ended by itself: {code}")
        return ended

    def watch(self) -> None:
        """Note who makes no progress; who is stopped for a moment does so before long."""
        now = time.monotonic()
        for member in self.living():
            grown = ledger.size(self.where, member.index)
            if grown != member.grown:
                if member.grown:  # the first pause is the start of the process
                    self.longest_pause = max(self.longest_pause, now - member.since)
                member.grown, member.since = grown, now
            elif now - member.since > BOUND * (1 if grown else 3):  # starting may be slow
                self.violations.append(
                    f"{member.role} {member.index} did nothing for {now - member.since:.1f} s\n"
                    + self.stacks([member])
                )
                member.since = now

    def stop(self) -> None:
        """Tell all that the storm is over."""
        self._control[0] = 1

    def wait(self, members: list[Member], seconds: float = BOUND) -> bool:
        """Wait until these have ended; whoever does not in time is a violation, and is killed."""
        deadline = time.monotonic() + seconds
        while late := [member for member in members if member.exitcode is None]:
            self.reap()
            if time.monotonic() > deadline:
                self.give_up(late)
                return False
            time.sleep(0.005)
        return True

    def give_up(self, late: list[Member]) -> None:
        """Report and kill those that do not end."""
        names = ", ".join(f"{member.role} {member.index}" for member in late)
        self.violations.append(f"still there at the end: {names}\n{self.stacks(late)}")
        for member in late:
            member.signals.add(signal.SIGKILL)
            member.process.kill()
            member.process.join(10)
        self.reap()

    def stacks(self, members: list[Member]) -> str:
        """Where these members are, in the kernel and in Python."""
        lines = []
        for member in members:
            now = procs.read(member.process.pid)
            if now is None:
                continue
            lines.append("  " + procs.describe(now))
            if procs.catches(now.pid, STACKS_SIGNAL):
                procs.send(now, STACKS_SIGNAL)
                time.sleep(0.3)
                with open(os.path.join(self.where, f"{member.index}.stacks")) as file:
                    lines.append(BELOW_MEMBER.sub(r"\1", file.read()))
        return "\n".join(lines)

    def close(self) -> None:
        self._control.close()


class Storm:
    """Random signals upon a scenario's victims, a few at a time."""

    def __init__(self, crew: Crew, scenario: Any, rng: random.Random, mortal: set[str]) -> None:
        self.crew = crew
        self.scenario = scenario
        self.random = rng
        self.mortal = mortal
        self.sent: Counter[int] = Counter()
        self._asleep: list[tuple[float, int, procs.Proc]] = []
        self._count = 0
        #: Starting another process is the slower the more of it has to be loaded.
        self.pause = 0.03 if crew.ctx.get_start_method() == "fork" else 0.15

    def blow(self, seconds: float) -> None:
        """Go on for so long, once all have begun."""
        self._see_progress()
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.crew.violations:
            time.sleep(min(self.random.expovariate(1 / self.pause), 10 * self.pause))
            self.strike()
            self._wake(time.monotonic())
            self._tend()
        self._wake(float("inf"))
        self._see_progress()

    def _tend(self) -> None:
        for member in self.crew.reap():
            self.scenario.replace(self.crew, member)
        self.scenario.tend(self.crew)
        self.crew.watch()

    def _see_progress(self) -> None:
        """Without signals: each that lives has to do something before the round goes on."""
        at = {member.index: member.grown for member in self.crew.living()}
        while not self.crew.violations:
            self._tend()
            if all(member.grown != at.get(member.index, 0) for member in self.crew.living()):
                return
            time.sleep(0.005)

    def strike(self) -> None:
        """One signal; after a deadly one often a second, upon who may be about to recover."""
        while True:
            deadly = self.random.random() < 0.7
            victims = self.scenario.victims(self.crew, self.mortal if deadly else None)
            if not victims:
                return
            index, proc = self.random.choice(victims)
            if not deadly:
                self._stop(index, proc)
                return
            signum = signal.SIGKILL if self.random.random() < 0.8 else signal.SIGTERM
            self._send(index, proc, signum)
            if self.random.random() < 0.6:
                return
            # Ticks come every 100 ms: by then a survivor has found what the dead one held.
            time.sleep(self.random.choice([0, 0.0005, self.random.random() * 0.12]))

    def _send(self, index: int, proc: procs.Proc, signum: int) -> None:
        self.sent[signum] += 1
        if index:
            self.crew.members[index - 1].signals.add(signum)
        elif signum in DEADLY:
            self.crew.others_killed += 1
        procs.send(proc, signum)

    def _stop(self, index: int, proc: procs.Proc) -> None:
        self._send(index, proc, signal.SIGSTOP)
        until = time.monotonic() + self.random.choice([0.001, 0.02, 0.15, 0.4])
        self._count += 1
        heapq.heappush(self._asleep, (until, self._count, proc))

    def _wake(self, now: float) -> None:
        while self._asleep and self._asleep[0][0] <= now:
            _, _, proc = heapq.heappop(self._asleep)
            procs.send(proc, signal.SIGCONT)
