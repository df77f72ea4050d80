"""One round: a scenario, a start method, a seed; and what is left behind when it is over."""

from __future__ import annotations

import random
import re
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass, field

import fastmp
from tests.support import census

from . import ledger
from .channels import BoundedQueue, JoinableQueue, Pipe, SimpleQueue, UnboundedQueue
from .locks import Counter, Semaphore
from .scenario import Scenario
from .services import Manager, Pool
from .storm import Crew, Storm
from .waiting import Barrier, Condition, Event

SCENARIOS: dict[str, type[Scenario]] = {
    scenario.name: scenario
    for scenario in (
        UnboundedQueue, BoundedQueue, JoinableQueue, SimpleQueue, Pipe, Counter, Semaphore,
        Condition, Event, Barrier, Pool, Manager,
    )
}  # fmt: skip
METHODS = ("fork", "spawn", "forkserver")

#: Names in /dev/shm that are made by nobody here: other programs run beside us for hours.
STRANGERS = re.compile(r"/dev/shm/(?!sem\.mp|psm_|pym-|fastmp)")

#: What the end of a round may take to leave nothing behind.
GRACE = 10.0


@dataclass
class Report:
    """What a round was and what came of it."""

    name: str
    method: str
    seed: int
    seconds: float = 0.0
    mortal: str = ""
    kills: int = 0
    terms: int = 0
    stops: int = 0
    deaths: int = 0
    members: int = 0
    summary: str = ""
    pause: float = 0.0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        verdict = "ok" if not self.violations else f"{len(self.violations)} VIOLATIONS"
        return (
            f"{self.name} {self.method} seed {self.seed}, mortal: {self.mortal}; "
            f"{self.seconds:.0f} s, {self.kills} SIGKILL {self.terms} SIGTERM {self.stops} SIGSTOP,"
            f" {self.deaths} of {self.members} processes killed; {self.summary};"
            f" longest pause {self.pause:.1f} s: {verdict}"
        )


def run(
    scenario_class: type[Scenario],
    method: str,
    seed: int,
    seconds: float,
    mortal: set[str] | None = None,
) -> Report:
    """Run a round of so many seconds. *mortal*: the roles that may be killed; None: by the seed."""
    report = Report(scenario_class.name, method, seed)
    began = time.monotonic()
    before = census.take()
    where = tempfile.mkdtemp(prefix="fastmp-stress-")
    try:
        with warnings.catch_warnings():
            # A lock had from a dead process says so.
            warnings.simplefilter("ignore", RuntimeWarning)
            _run(scenario_class, report, where, seconds, mortal)
        left = [text for text in census.settle(before, GRACE) if not STRANGERS.match(text)]
        report.violations += [f"left: {text}" for text in left]
    finally:
        census.clean_up(before)
        shutil.rmtree(where, ignore_errors=True)
    report.seconds = time.monotonic() - began
    return report


def _run(
    scenario_class: type[Scenario],
    report: Report,
    where: str,
    seconds: float,
    mortal: set[str] | None,
) -> None:
    rng = random.Random(report.seed)
    ctx = fastmp.get_context(report.method)
    crew = Crew(ctx, where, report.seed)
    scenario = scenario_class(ctx, rng)
    if scenario.variant:
        report.name += f" ({scenario.variant})"
    if mortal is None:
        # All, mostly; one role, for what the others then must not lose; or nobody.
        choices = [set(scenario.roles)] * 3 + [{role} for role in scenario.roles] + [set()]
        mortal = rng.choice(choices)
    report.mortal = "+".join(sorted(mortal)) or "nobody"
    storm = Storm(crew, scenario, rng, mortal)
    try:
        scenario.cast(crew)
        storm.blow(seconds)
        crew.stop()
        scenario.finish(crew)
        crew.wait(crew.living())
        report.violations += scenario.audit(crew)
    except Exception:
        report.violations.append("in the parent: " + traceback.format_exc())
        crew.stop()
        if late := crew.living():
            crew.give_up(late)
    finally:
        report.violations += crew.violations
        for member in crew.members:
            report.violations += [
                f"{member.role} {member.index}: {text}"
                for text in ledger.faults(where, member.index)
            ]
        report.kills = storm.sent[signal.SIGKILL]
        report.terms = storm.sent[signal.SIGTERM]
        report.stops = storm.sent[signal.SIGSTOP]
        report.deaths = sum(member.killed for member in crew.members)
        report.members = len(crew.members)
        report.summary = scenario.summary
        report.pause = crew.longest_pause
        scenario.close()
        crew.close()
