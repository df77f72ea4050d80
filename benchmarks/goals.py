"""What is aimed at: the table of goals, and whether a run has met it, or could have."""

from dataclasses import dataclass
from typing import NamedTuple

from .figures import times

# A limit that takes so much longer than what it limits was kept from running: two that spin, on a
# crowded machine. It says nothing.
DISTURBED = 0.5
# What is no limit in that sense: fastmp may well be faster.
COMPARISONS = ("limit: array.array",)


class Check(NamedTuple):
    """One of what a goal asks for, in a run. `figure` and `is_met` are None if it was not measured.
    `alone` is what the least that anybody has to do for this row got, if that was measured."""

    what: str
    figure: str | None
    is_met: bool | None
    alone: str | None = None


@dataclass(frozen=True)
class Goal:
    """For one row. `ratio`: how many times better than the standard library, at the least.
    `least`: a limit, the least that whoever does the row's work has to do. `within`: at most so
    many times that limit or peer. `ahead_of`: peers to be better than. `at_most`: the figure."""

    row: str
    ratio: float | None = None
    least: str | None = None
    within: tuple = ()
    ahead_of: tuple = ()
    at_most: float | None = None

    def alone(self, *reached):
        """What the least there is to do has reached, in each of some runs, in words."""
        return f"{self.least.removeprefix('limit: ')} alone: {', '.join(reached)}"

    def checks(self, result):
        """Yields a Check for each of what the goal asks for."""
        if self.ratio is not None:
            yield self._against_stdlib(result)
        for side, factor in self.within:
            figure = result.ratio("fastmp", side)
            if side not in COMPARISONS and figure is not None and figure < DISTURBED:
                figure = None
            name = side.removeprefix("limit: ")
            yield Check(f"<= {factor:g} of {name}", _times(figure), _met(factor, figure))
        for side in self.ahead_of:
            figure = result.ratio(side)
            yield Check(f"ahead of {side}", _times(figure), _met(figure, 1.0))
        if self.at_most is not None:
            measured = result.sides.get("fastmp")
            figure = measured.median() if measured else None
            text = None if figure is None else f"{figure:.3g}"
            yield Check(f"<= {self.at_most:g} {result.row.unit}", text, _met(self.at_most, figure))

    def _against_stdlib(self, result):
        figure = result.ratio("stdlib")
        alone = result.ratio("stdlib", self.least) if self.least is not None else None
        return Check(
            f">= {self.ratio:g}x the stdlib",
            _times(figure),
            _met(figure, self.ratio),
            _times(alone),
        )


def _times(figure):
    return None if figure is None else times(figure)


def _met(larger, smaller):
    return larger >= smaller if larger is not None and smaller is not None else None


EVERY_POOL = (
    "concurrent.futures",
    "billiard",
    "multiprocess",
    "joblib",
    "loky",
    "mpire",
    "pebble",
    "ray",
)
FIFO = ("faster-fifo",)

GOALS = [
    Goal(
        "Lock: acquire, release",
        1.7,
        least="limit: 2 empty C calls, 1 CAS pair",
        within=(("limit: 2 empty C calls, 1 CAS pair", 1.3),),
    ),
    Goal("Lock: with", 5),
    Goal("Value('i'): .value += 1", 6, least="limit: an int in a C struct"),
    Goal(
        "Array('i'): arr[i] = x",
        15,
        least="limit: an int in a C struct",
        within=(("limit: array.array", 1.5),),
    ),
    Goal("Array('i'): arr[i]", within=(("limit: array.array", 1.5),)),
    *(
        Goal(f"Array('i'): arr[:] of 1000{which}", 4, least, (("limit: array.array", 1.5),))
        for which, least in (
            ("", None),
            (" from 1,000,000 on", None),
            (" that are others each time", "limit: a list of new ints"),
        )
    ),
    Goal("Queue: ints, one producer to one consumer", 15, ahead_of=FIFO),
    Goal("Queue: put_many, get_many against put, get", 40, ahead_of=FIFO),
    *(
        Goal(f"faster-fifo's comparison: {shape}", ahead_of=FIFO)
        for shape in ("1P1C", "1P10C", "10P1C", "3P20C", "20P3C", "20P20C")
    ),
    *(
        Goal(f"faster-fifo's comparison: {shape}, get_many", ahead_of=FIFO)
        for shape in ("1P1C", "1P10C", "10P1C", "3P20C", "20P3C", "20P20C")
    ),
    Goal("Queue: round trip", 12, within=(("limit: C ring, both spin", 2),)),
    Goal("Queue: round trip, on one CPU", 3, within=(("limit: C ring, both sleep", 2),)),
    Goal("Queue: round trip, the other asleep", 3),
    Goal("SimpleQueue: round trip", 10, ahead_of=("pyzmq",)),
    Goal("Pipe: round trip", 10, ahead_of=("pyzmq",)),
    *(Goal(f"{kind}: 64 MiB bytes (4 MiB if quick)", 8) for kind in ("Queue", "Pipe")),
    *(
        Goal(
            f"{kind}: 64 MiB numpy array (4 MiB if quick)",
            15,
            within=(("limit: memcpy, warm shared pages", 1.5),),
        )
        for kind in ("Queue", "Pipe")
    ),
    Goal(
        "Process: start, join (fork)",
        1.3,
        least="limit: os.fork, os._exit, waitpid",
        within=(("limit: os.fork, os._exit, waitpid", 1.25),),
    ),
    Goal(
        "Process: start, join (spawn)",
        1.4,
        least="limit: python -c pass",
        within=(("limit: python -c pass", 1.25),),
    ),
    Goal(
        "Process: start, join (forkserver)",
        4,
        least="limit: fork from a bare server",
        within=(("limit: fork from a bare server", 1.25),),
    ),
    Goal("Pool.map: 1,000,000 trivial calls", 3),
    Goal("Pool.map: chunksize=1", 10, ahead_of=EVERY_POOL),
    Goal("Pool.apply", 12),
    Goal("Pool.imap_unordered: 30,000 tasks", 10),
    Goal("Pool: create, map 100, terminate", 2),
    Goal("Manager: dict set", 5),
    *(
        Goal(f"Memory: {what}, an idle {kind}", 1)
        for kind in ("Lock", "Queue", "Pool")
        for what in ("resident", "shared")
    ),
    *(
        Goal(f"Idle: 1,000 waiters in {call} for 10 s, CPU", at_most=0.1)
        for call in ("Lock.acquire", "Queue.get", "Event.wait")
    ),
    Goal("Crowd: 8 producers, 8 consumers, CPU for 1,000,000 ints", 8),
    Goal("Program: examples/wordcount.py", 1),
    Goal("Program: the documents' examples, one after another", 1),
]


def verdicts(results):
    """For each goal that a result is about, what it asks for: (goal, Check)."""
    by_row = {result.row.name: result for result in results}
    for goal in GOALS:
        result = by_row.get(goal.row)
        if result is not None:
            for check in goal.checks(result):
                yield goal, check
