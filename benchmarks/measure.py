"""Rows and how they are measured.

A row is a context manager that is given a `Side`, sets up whatever it measures with the side's
package, and yields a function: `sample(n)` does the operation n times, checks what came out, and
returns the seconds that it took. `measure` holds both sides open and takes their samples in turn.
"""

import contextlib
import multiprocessing
import signal
import statistics
import time
import types
from dataclasses import dataclass, field

import fastmp

ROWS = []


class WrongAnswer(Exception):
    """A benchmark did not compute what it should have."""


class RowTimeout(Exception):
    """A row took longer than it may."""


def expect(got, wanted):
    if got != wanted:
        raise WrongAnswer(f"got {got!r:.100}, expected {wanted!r:.100}")


@dataclass(frozen=True)
class Side:
    """One of the two packages, under one start method."""

    name: str
    method: str
    quick: bool

    @property
    def is_fastmp(self):
        return self.name == "fastmp"

    def context(self, method=None):
        package = fastmp if self.is_fastmp else multiprocessing
        return package.get_context(method or self.method)


@dataclass(frozen=True)
class Row:
    """Something to be measured; `count` operations a sample, or as many as take a while."""

    suite: str
    name: str
    open: callable = field(repr=False)
    count: int | None = None
    quick_count: int | None = None

    def fixed_count(self, quick):
        return self.quick_count if quick and self.quick_count is not None else self.count


def row(suite, name, **options):
    """Register a function that takes a Side and yields `sample` as a row."""

    def register(function):
        ROWS.append(Row(suite, name, contextlib.contextmanager(function), **options))
        return function

    return register


@dataclass(frozen=True)
class Plan:
    """How thoroughly to measure: rounds, and seconds that a sample of the stdlib should take."""

    rounds: int
    sample_seconds: float
    row_seconds: float
    method: str
    quick: bool


@dataclass
class Result:
    """The seconds per operation of each sample, of each side."""

    row: Row
    count: int = 0
    stdlib: list = field(default_factory=list)
    fastmp: list = field(default_factory=list)
    error: str | None = None

    def medians(self):
        return statistics.median(self.stdlib), statistics.median(self.fastmp)

    def ratios(self):
        """stdlib / fastmp of each round, whose two samples stand next to each other in time."""
        return [slow / fast for slow, fast in zip(self.stdlib, self.fastmp, strict=True)]


def quartiles(values):
    """The first quartile, the median and the third quartile."""
    return statistics.quantiles(values, n=4, method="inclusive")


def calibrate(sample, seconds):
    """How many operations take about that long. Warms the row up, too."""
    count = 1
    while True:
        took = sample(count)
        if took >= seconds / 2:
            return max(1, round(count * seconds / took))
        count = max(count + 1, round(count * min(10.0, seconds / max(took, 1e-9))))


@contextlib.contextmanager
def at_most(seconds):
    """Raise RowTimeout in the block if it takes longer."""

    def expire(signum, frame):
        raise RowTimeout(f"not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def measure(row, plan):
    """Measure a row on both sides, in turn. An error is the result's, so that others follow."""
    result = Result(row)
    try:
        with at_most(plan.row_seconds), contextlib.ExitStack() as stack:
            # fastmp first: the stdlib's pools and queues start threads, and forking with threads
            # is to be avoided.
            samples = {
                name: stack.enter_context(row.open(Side(name, plan.method, plan.quick)))
                for name in ("fastmp", "stdlib")
            }
            _take_samples(result, samples, plan)
    except Exception as error:
        result.error = f"{type(error).__name__}: {error}"
        _end_children()
    return result


def _take_samples(result, samples, plan):
    result.count = result.row.fixed_count(plan.quick)
    if result.count is None:
        result.count = calibrate(samples["stdlib"], plan.sample_seconds)
    for sample in samples.values():
        sample(result.count)
    for number in range(plan.rounds):
        order = ("stdlib", "fastmp") if number % 2 == 0 else ("fastmp", "stdlib")
        for name in order:
            seconds = samples[name](result.count)
            getattr(result, name).append(seconds / result.count)


def _end_children():
    """What a failed row could not end itself must not disturb those that follow."""
    for child in multiprocessing.active_children():
        child.kill()
        child.join()


def own(function):
    """A copy of a loop with code of its own, for one side.

    The interpreter adapts code to what it meets, which in a program is one of the packages.
    Two that take turns on the same code spoil that for each other.
    """
    return types.FunctionType(function.__code__.replace(), function.__globals__)


def timed(function, *args):
    """The seconds that a call takes, and what it returns."""
    start = time.perf_counter()
    value = function(*args)
    return time.perf_counter() - start, value
