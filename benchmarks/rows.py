"""Rows, and the ways in which each side does them.

A way is a context manager that is given a `Side`, sets up what it measures, and yields a function:
`sample(n)` does the operation n times, checks what came out, and returns the seconds that it took
(or the bytes; `unit` says). A row's own way is for whatever has multiprocessing's interface; peers
with another one, and the limits of the machine, bring theirs.
"""

import contextlib
import itertools
import time
from dataclasses import dataclass, field

ROWS = {}


class WrongAnswer(Exception):
    """A benchmark did not compute what it should have."""


class Unable(Exception):
    """This side cannot do this row, and the reason."""


@dataclass(frozen=True)
class Row:
    """Something to be measured; `count` operations a sample, or as many as take a while.

    `series` and `at` place it on a curve: how the cost grows with a size. `rounds` and `seconds`
    bound rows that take long: samples of each side, and the whole.
    """

    suite: str
    name: str
    ways: dict = field(repr=False)  # side's name -> way; "" for all that are like multiprocessing
    count: int | None = None
    quick_count: int | None = None
    unit: str = "second"
    rounds: int | None = None
    seconds: float | None = None
    series: str | None = None
    at: float | None = None
    by_itself: bool = False  # its figure is what counts, not how it compares: in no mean of ratios
    tells_sleeps: bool = False  # how often its process slept in an operation is worth a line

    def fixed_count(self, quick):
        return self.quick_count if quick and self.quick_count is not None else self.count

    def way_of(self, side):
        return self.ways.get(side.name) or (self.ways.get("") if side.is_package else None)


def row(suite, name, **options):
    """Register a function that takes a Side and yields `sample` as a row."""

    def register(function):
        if name in ROWS:
            raise ValueError(f"two rows are called {name!r}")
        ROWS[name] = Row(suite, name, {"": contextlib.contextmanager(function)}, **options)
        return function

    return register


def way(name, *sides):
    """Register how other sides do the row of that name."""

    def register(function):
        for side in sides:
            if side in ROWS[name].ways:
                raise ValueError(f"{side} has a way to do {name!r} already")
            ROWS[name].ways[side] = contextlib.contextmanager(function)
        return function

    return register


def unable(name, side, reason):
    """Say why a side has no part in a row, where one would look for it."""

    def refuse(side):
        raise Unable(reason)
        yield

    way(name, side)(refuse)


def expect(got, wanted):
    if got != wanted:
        raise WrongAnswer(f"got {got!r:.100}, expected {wanted!r:.100}")


def times(n):
    """For a loop of n rounds that makes no ints, as in timeit: the loop is measured, too."""
    return itertools.repeat(None, n)


def repeated(statement, name, setup="pass"):
    """A function of `name` and n that does the statement n times after `setup`.

    Ten times to a round of the loop, as with pyperf's --duplicate: it is not what is measured.
    """
    source = "\n".join(
        [
            f"def loop({name}, n):",
            f"    {setup}",
            "    for _ in times(n // 10):",
            *[f"        {statement}"] * 10,
            "    for _ in times(n % 10):",
            f"        {statement}",
        ]
    )
    names = {"times": times}
    exec(compile(source, f"<{statement}>", "exec"), names)
    return names["loop"]


def timed(function, *args):
    """The seconds that a call takes, and what it returns."""
    start = time.perf_counter()
    value = function(*args)
    return time.perf_counter() - start, value


def checked(function, check):
    """A sample: function(n), timed; check(answer, n) raises where that is wrong."""

    def sample(n):
        seconds, answer = timed(function, n)
        check(answer, n)
        return seconds

    return sample
