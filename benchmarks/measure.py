"""The turns: all sides of a row are open at once; samples are taken from one after another."""

import contextlib
import statistics
from dataclasses import dataclass, field

from .rows import Row, Unable
from .runner import Failed, RowTimeout, Runner
from .sides import LIMIT, limit

LEAST_ROUNDS = 2


@dataclass(frozen=True)
class Plan:
    """How thoroughly to measure: rounds, and seconds that a sample should take.

    A sample that is not done after `row_seconds` puts its side out. A side whose samples take so
    long that all rounds would exceed `side_seconds` is asked for fewer: LEAST_ROUNDS, or for no
    more than its first where that alone did."""

    rounds: int
    sample_seconds: float
    row_seconds: float
    method: str
    quick: bool
    side_seconds: float = 15.0

    def rounds_of(self, row):
        return min(self.rounds, row.rounds or self.rounds)

    def rounds_at(self, seconds):
        return max(LEAST_ROUNDS, int(self.side_seconds / max(seconds, 1e-9)))


@dataclass
class Measured:
    """What one side took per operation, in each round."""

    kind: str
    loops: int = 0
    rounds: int | None = None  # at most so many
    values: list = field(default_factory=list)
    sleeps: list = field(default_factory=list)  # per operation

    def add(self, sample):
        self.values.append(sample.value / sample.count)
        self.sleeps.append(sample.sleeps / sample.count)

    def median(self):
        return statistics.median(self.values)


@dataclass
class Result:
    """A row's figures by side; `missing` says why a side has none."""

    row: Row
    sides: dict = field(default_factory=dict)
    missing: dict = field(default_factory=dict)
    about: dict = field(default_factory=dict)  # machine, date, load, start method

    @property
    def error(self):
        """Why this row says nothing about fastmp and the standard library, or None."""
        for name in ("fastmp", "stdlib"):
            if name in self.missing:
                return f"{name}: {self.missing[name]}"
        return None

    def ratios(self, slow, fast="fastmp"):
        """slow / fast of each round, whose samples stand next to each other in time."""
        pairs = zip(self.sides[slow].values, self.sides[fast].values, strict=False)
        return [one / other for one, other in pairs]

    def ratio(self, slow, fast="fastmp"):
        """The median of these, or None."""
        if slow not in self.sides or fast not in self.sides:
            return None
        return statistics.median(self.ratios(slow, fast))


def quartiles(values):
    """The first quartile, the median and the third quartile."""
    if len(values) == 1:
        return values * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def calibrate(sample, seconds):
    """How many operations take about that long. Warms the row up, too."""
    count = 1
    took = sample(count)
    if took < 10 * seconds:  # the first may have started what the others find: a fork server
        took = sample(count)
    while took < seconds / 2:
        count = max(count + 1, round(count * min(10.0, seconds / max(took, 1e-9))))
        took = sample(count)
    return max(1, round(count * seconds / took))


def measure(row, sides, plan, with_limits=False):
    """Measure a row on those sides that can do it. A side that fails is out; others go on."""
    result = Result(row)
    if with_limits:
        sides = [*sides, *(limit(name) for name in row.ways if name.startswith("limit: "))]
    table = _Table(row, plan, result)
    try:
        for side in sides:
            table.seat(side.under(plan.method, plan.quick))
        for number in range(plan.rounds_of(row)):
            table.round(number)
        table.leave()
    finally:
        table.clear()
    return result


class _Table:
    """The sides of a row that are at it."""

    def __init__(self, row, plan, result):
        self._row, self._plan, self._result = row, plan, result
        self._runners = {}

    def seat(self, side):
        """Open a side, find how many operations it shall do, and warm it up."""
        way = self._row.way_of(side)
        if way is None:
            return
        if side.kind != LIMIT and side.version() is None:
            self._result.missing[side.name] = "not installed"
            return
        with self._excused(side.name):
            self._runners[side.name] = Runner(way, side)
            measured = Measured(side.kind)
            measured.loops = self._row.fixed_count(self._plan.quick) or calibrate(
                lambda n: self._sample(side.name, n).value, self._plan.sample_seconds
            )
            if self._row.rounds is None:  # a long row's first sample is not for warming up alone
                self._warm_up(side.name, measured)
            self._result.sides[side.name] = measured

    def _warm_up(self, name, measured):
        sample = self._sample(name, measured.loops)
        measured.rounds = self._plan.rounds_at(sample.value)
        if sample.value > self._plan.side_seconds:  # that was it
            measured.add(sample)
            measured.rounds = 0

    def round(self, number):
        """One sample of each; who begins changes from round to round."""
        names = list(self._runners)
        turn = number % len(names) if names else 0
        for name in names[turn:] + names[:turn]:
            measured = self._result.sides[name]
            if measured.rounds is not None and number >= measured.rounds:
                continue
            with self._excused(name):
                measured.add(self._sample(name, measured.loops))

    def leave(self):
        for name in list(self._runners):
            with self._excused(name):
                self._runners.pop(name).close()

    def clear(self):
        while self._runners:
            self._runners.popitem()[1].kill()

    def _sample(self, name, count):
        return self._runners[name].sample(count, self._row.seconds or self._plan.row_seconds)

    @contextlib.contextmanager
    def _excused(self, name):
        """Whatever a side could not do puts it out, and the others go on."""
        try:
            yield
        except (Failed, RowTimeout) as error:
            self._put_out(name, str(error))
        except Unable as error:
            self._put_out(name, f"cannot: {error}")

    def _put_out(self, name, reason):
        self._result.missing[name] = reason
        self._result.sides.pop(name, None)
        if name in self._runners:
            self._runners.pop(name).kill()
