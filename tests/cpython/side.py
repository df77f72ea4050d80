"""Runs a suite on one side, fastmp's or the stdlib's, and brings home what became of each id.

A run is one process, as in regrtest.  One that stands still for too long is ended with all that it
started; the id it was at has failed, and a new process goes on with the next.  What failed is then
run once more, each id alone: a chance failure shows as "passed on repetition", on either side.
Ids that may differ have a process each: one that fails leaves things behind, which is not others'.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.support import procs

from . import allowed, witness
from .environment import Interpreter
from .suites import Suite

PASSED, REPEATED, SKIPPED, FAILED = "passed", "passed on repetition", "skipped", "failed"
SIDES = ("stdlib", "fastmp")
MOST_REPETITIONS = 40
LEAVING = 3.0  # what a run may leave behind, the resource tracker for one, ends by itself


@dataclass(frozen=True)
class Outcome:
    """What became of an id, and the reason or traceback that goes with it."""

    outcome: str
    text: str = ""
    seconds: float = 0.0


@dataclass
class Result:
    """One side of a suite."""

    side: str
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    altered: bool = False  # the tests say themselves that they left something behind
    seconds: float = 0.0
    testimony: witness.Testimony | None = None  # of fastmp's side

    def count(self, outcome: str) -> int:
        """How many ids came out so."""
        return sum(each.outcome == outcome for each in self.outcomes.values())

    def as_json(self) -> dict[str, Any]:
        """What `from_json` takes back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Result:
        """The result that `as_json` gave."""
        told = data["testimony"] and witness.Testimony(**data["testimony"])
        outcomes = {name: Outcome(**each) for name, each in data["outcomes"].items()}
        return cls(data["side"], outcomes, data["altered"], data["seconds"], told)


@dataclass(frozen=True)
class Limits:
    """How long, in seconds, a run may stand still, and last."""

    still: float = 400.0
    whole: float = 2400.0


class Stopped(Exception):
    """The run was told to end."""


class NotListed(Exception):
    """The suite's modules cannot be loaded."""


def modules_of(python: Interpreter, suite: Suite) -> tuple[tuple[str, ...], str]:
    """The modules to load, and the version of the Python that lent them, if one did."""
    modules = tuple(name for name in suite.modules if python.has_module(name))
    if modules:
        return modules, ""
    name = suite.modules[0].rpartition(".")[2]
    if suite.stand_in:
        python.offer(name, suite.stand_in)
        return (name,), ""
    if suite.borrows:
        lender, modules = python.borrow(name)
        return modules, lender
    return (), ""


def ids_of(python: Interpreter, suite: Suite, modules: Sequence[str]) -> list[str]:
    """The ids of the suite, in order, as the unmodified interpreter finds them."""
    command = [str(python.executable), "-m", "fastmp_cpython_inside", "list", *modules]
    with tempfile.TemporaryDirectory(prefix="fmp") as directory:
        done = subprocess.run(
            command,
            cwd=directory,
            env=python.variables(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise NotListed(f"{suite.name}: {done.stderr}")
    return [name for name in json.loads(done.stdout.splitlines()[-1]) if suite.chooses(name)]


class SuiteRun:
    """One side of one suite; when *stop* is set it ends, and raises `Stopped`."""

    def __init__(
        self,
        python: Interpreter,
        suite: Suite,
        modules: Sequence[str],
        ids: Sequence[str],
        side: str,
        workspace: Path,
        limits: Limits,
        stop: threading.Event,
    ):
        self.python = python
        self.modules = modules
        self.ids = ids
        self.limits = limits
        self.stop = stop
        self.result = Result(side)
        self.record = workspace / f"{suite.name}-{side}.processes"
        self.output = workspace / f"{suite.name}-{side}.output"
        self.record.unlink(missing_ok=True)

    def __call__(self) -> Result:
        """Run all, repeat what failed, and hear the witness."""
        began = time.monotonic()
        with open(self.output, "wb") as output:
            apart = [name for name in self.ids if allowed.names(name)]
            left = [name for name in self.ids if name not in apart]
            while left:
                part, altered = self._process(left, output)
                self.result.outcomes.update(part)
                self.result.altered |= altered
                left = [name for name in left if name not in part]
            for name in apart:
                self.result.outcomes.update(self._process([name], output)[0])
            self._repeat(output)
        self.result.outcomes = {name: self.result.outcomes[name] for name in self.ids}
        if self.result.side == "fastmp":
            self.result.testimony = witness.read(self.record)
        self.result.seconds = time.monotonic() - began
        return self.result

    def _repeat(self, output: Any) -> None:
        failed = [name for name, each in self.result.outcomes.items() if each.outcome == FAILED]
        for name in failed[:MOST_REPETITIONS]:
            again = self._process([name], output)[0][name]
            if again.outcome == PASSED:
                first = self.result.outcomes[name]
                self.result.outcomes[name] = Outcome(REPEATED, first.text, again.seconds)

    def _variables(self, directory: str) -> dict[str, str]:
        variables = self.python.variables(TMPDIR=directory)
        if self.result.side == "fastmp":
            variables.update(FASTMP_INSTALL="1", FASTMP_CPYTHON_LOG=str(self.record))
        return variables

    def _process(self, ids: Sequence[str], output: Any) -> tuple[dict[str, Outcome], bool]:
        """Run these ids in one process: (the outcomes, of the first at least; `altered`)."""
        # Short: the names of sockets go into it.
        directory = tempfile.mkdtemp(prefix="fmp")
        events = Path(directory, "events")
        command = [str(self.python.executable), "-m", "fastmp_cpython_inside", "run", str(events)]
        try:
            process = subprocess.Popen(
                [*command, *self.modules],
                cwd=directory,
                env=self._variables(directory),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            assert process.stdin is not None
            process.stdin.write("\n".join(ids).encode())
            process.stdin.close()
            story = _Story(events, ids)
            why = self._watch(process, story)
            _end(process)
            story.read()
            return story.outcomes(why), story.altered
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _watch(self, process: subprocess.Popen[bytes], story: _Story) -> str:
        """Wait for the end of the process, or until it stands still; say how it ended."""
        began = moved = time.monotonic()
        while True:
            try:
                process.wait(0.2)
                return f"the process left with exit code {process.returncode}"
            except subprocess.TimeoutExpired:
                now = time.monotonic()
            if self.stop.is_set():
                _end(process)
                raise Stopped
            if story.read():
                moved = now
            if now - moved > self.limits.still or now - began > self.limits.whole:
                process.send_signal(signal.SIGABRT)  # prints the stacks
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    pass  # _end() will kill it
                return f"ended by the watchdog after {now - moved:.0f} s"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the process and of all that it started."""
    deadline = time.monotonic() + (LEAVING if process.poll() is not None else 0)
    while procs.family(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    family = procs.family(process.pid)
    if process.poll() is None:
        process.kill()
        process.wait()
    for proc in family.values():
        procs.send(proc, signal.SIGKILL)


class _Story:
    """What a process tells as it runs: see `tests.cpython.inside`."""

    def __init__(self, events: Path, ids: Sequence[str]):
        self.altered = False
        self._events = events
        self._ids = ids
        self._offset = 0
        self._current = ""
        self._began = 0.0
        self._outcomes: dict[str, Outcome] = {}
        self._fixtures: dict[str, Outcome] = {}  # by the class or module they are of
        self._done = False

    def read(self) -> bool:
        """Take in what is new; whether there was anything."""
        if not self._events.exists():
            return False
        with open(self._events, "rb") as file:
            file.seek(self._offset)
            data = file.read()
        lines = data[: data.rfind(b"\n") + 1]
        self._offset += len(lines)
        for line in lines.splitlines():
            self._take(json.loads(line))
        return bool(lines)

    def _take(self, event: dict[str, Any]) -> None:
        now = time.monotonic()
        if "start" in event:
            self._current, self._began = event["start"], now
        elif "end" in event:
            seconds = round(now - self._began, 1)
            self._outcomes[event["end"]] = Outcome(event["outcome"], event["text"], seconds)
            self._current = ""
        elif "fixture" in event:
            name = event["fixture"].rpartition("(")[2].rstrip(")")  # "setUpClass (a.b.C)"
            self._fixtures[name] = Outcome(event["outcome"], event["text"])
        else:
            self._done, self.altered = True, event["altered"]

    def outcomes(self, why: str) -> dict[str, Outcome]:
        """The outcomes, of what did not run too when nothing would be gained by trying again."""
        found = dict(self._outcomes)
        if self._current:
            found[self._current] = Outcome(FAILED, why)
        for name in self._ids:
            if name in found:
                continue
            fixture = self._fixture_of(name)
            if fixture is not None:
                found[name] = fixture
            elif self._done or not found:
                found[name] = Outcome(FAILED, f"did not run: {why}")
        for name, fixture in self._fixtures.items():
            self._blame(name, fixture, found)
        return found

    def _fixture_of(self, test_id: str) -> Outcome | None:
        for name, outcome in self._fixtures.items():
            if test_id.startswith(name + "."):
                return outcome
        return None

    def _blame(self, name: str, fixture: Outcome, found: dict[str, Outcome]) -> None:
        """A tear-down that failed is the failure of the last test before it."""
        if fixture.outcome != FAILED:
            return
        under = [test_id for test_id in self._ids if test_id.startswith(name + ".")]
        if under and all(found[each].outcome != FAILED for each in under if each in found):
            last = under[-1]
            found[last] = Outcome(FAILED, f"tearing down {name}: {fixture.text}")
