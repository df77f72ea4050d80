"""The tables of docs/performance.md and of the README, and their charts, from results."""

import re
from pathlib import Path

from . import chart, suites
from .figures import figure, times
from .goals import verdicts
from .measure import quartiles
from .sides import LIMIT

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT, README = ROOT / "docs/performance.md", ROOT / "README.md"
CHART, CURVES = "performance.svg", "growth.svg"
BEGIN, END = "<!-- written by python -m benchmarks --write-docs: {} -->", "<!-- end: {} -->"

TITLES = {
    "lock": "Locks and events",
    "value": "Value",
    "array": "Array",
    "queue": "Queue",
    "pipe": "Pipe",
    "large": "Large messages",
    "process": "Starting a process",
    "pool": "Pool",
    "manager": "Manager",
    "memory": "Memory",
    "crowd": "Idle, and crowded",
    "program": "Whole programs",
    "published": "What the peers have published",
}
# What the README shows: (row, what it is called there).
SHOWN = (
    ("Lock: with", "`with lock`"),
    ("Lock: acquire, release", "Lock: acquire, release"),
    ("Value('i'): .value += 1", "`value.value += 1`"),
    ("Array('i'): arr[i] = x", "`arr[i] = x`"),
    ("Queue: ints, one producer to one consumer", "Queue, ints from one process to another"),
    ("Queue: put_many, get_many against put, get", "the same with `put_many`, `get_many`"),
    ("Queue: round trip", "Queue, there and back"),
    ("Pipe: round trip", "Pipe, there and back"),
    ("Queue: 64 MiB numpy array (4 MiB if quick)", "Queue, a numpy array of 64 MiB"),
    ("Process: start, join (fork)", "Process: start, join"),
    ("Process: start, join (forkserver)", "Process: start, join (forkserver)"),
    ("Process: start, join (spawn)", "Process: start, join (spawn)"),
    ("Pool.map: 1,000,000 trivial calls", "Pool.map, 1,000,000 trivial calls, each"),
    ("Pool.map: chunksize=1", "Pool.map, chunksize=1, each"),
    ("Pool.apply", "Pool.apply"),
    ("Pool: create, map 100, terminate", "Pool: create, map 100, terminate"),
    ("Manager: dict set", "Manager: dict set"),
)


def write(results, beside=()):
    """Renew each part that these results say something about: all of its rows, so give them all.

    The results of other runs, *beside*, have columns of their own among the goals.
    """
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, made in (
        ("conditions", conditions(results)),
        ("tables", tables(results)),
        ("sleeps", sleeps(results)),
        ("growth", growth(results)),
        ("goals", goals([results, *beside])),
        ("missing", missing(results)),
    ):
        if made:
            text = between(text, name, made)
    DOCUMENT.write_text(text, encoding="utf-8")
    if any(result.row.series for result in results):
        chart.curves(results, str(DOCUMENT.parent / CURVES))
    if any(result.row.suite in suites.SHORT for result in results):
        chart.draw(results, str(DOCUMENT.parent / CHART))
        text = README.read_text(encoding="utf-8")
        text = between(text, "conditions", conditions(results))
        README.write_text(between(text, "table", short_table(results)), encoding="utf-8")


def between(text, name, made):
    """The text with what stands between that name's markers replaced."""
    begin, end = BEGIN.format(name), END.format(name)
    pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"the document has no place for {name!r}")
    return pattern.sub(lambda _: f"{begin}\n{made.rstrip()}\n{end}", text)


def conditions(results):
    """Where and when: what was the same for all rows once, of what was not its range."""

    def all_of(key):
        return sorted({result.about[key] for result in results if key in result.about})

    loads = sorted(map(float, all_of("load")))
    dates = sorted({date[:10] for date in all_of("date")})
    quick = "**By `--quick`: it says that it runs, not how fast.** " if any(all_of("quick")) else ""
    places = (", ".join(map(str, all_of(key))) for key in ("python", "system", "cpu"))
    return (
        f"{quick}{' to '.join(dict.fromkeys([dates[0], dates[-1]]))}: {', '.join(places)}; "
        f"{', '.join(map(str, all_of('cpus')))} processors, on which {loads[0]:.0f} to "
        f"{loads[-1]:.0f} processes wanted to run (the load); start method "
        f"{', '.join(all_of('start_method'))}.\n"
    )


def _lines(head, rows):
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *rows]) + "\n"


def _cells(*cells):
    return "| " + " | ".join(cells) + " |"


def _bold_if(text, behind):
    return f"**{text}**" if behind else text


def _ratio(result):
    low, ratio, high = quartiles(result.ratios("stdlib"))
    return _bold_if(f"{times(ratio)} ({times(low)}-{times(high)})", ratio < 1)


def _against(result, limits):
    """Each peer's time as a multiple of fastmp's; or fastmp's as a multiple of each limit's."""
    cells = []
    for name, measured in result.sides.items():
        if name in ("stdlib", "fastmp") or (measured.kind == LIMIT) != limits:
            continue
        ratio = result.ratio(name)
        if limits:
            cells.append(f"{name.removeprefix('limit: ')} {times(1 / ratio)}")
        else:
            cells.append(_bold_if(f"{name} {times(ratio)}", ratio < 1))
    return "; ".join(cells)


def _figures(result):
    return [figure(result.sides[side].median(), result.row.unit) for side in ("stdlib", "fastmp")]


def tables(results):
    made = []
    for suite, title in TITLES.items():
        of_suite = [result for result in results if result.row.suite == suite]
        if of_suite:
            made.append(f"### {title}\n\n{_table(of_suite)}")
    return "\n".join(made)


def _table(results):
    rows = []
    for result in results:
        if result.error:
            rows.append(_cells(result.row.name, "", "", f"failed: {result.error}", "", ""))
            continue
        others = _against(result, False), _against(result, True)
        rows.append(_cells(result.row.name, *_figures(result), _ratio(result), *others))
    return _lines(
        ["Work", "stdlib", "fastmp", "stdlib / fastmp", "peer / fastmp", "fastmp / limit"], rows
    )


def short_table(results):
    by_name = {result.row.name: result for result in results if not result.error}
    rows = []
    for name, title in SHOWN:
        if name in by_name:
            result = by_name[name]
            ratio = result.ratio("stdlib")
            text = f"{ratio:.0f}" if ratio >= 9.5 else f"{ratio:.1f}"
            rows.append(_cells(title, *_figures(result), _bold_if(text, ratio < 1)))
    return _lines(["Work", "stdlib", "fastmp", "ratio"], rows)


def sleeps(results):
    rows = []
    for result in results:
        if result.row.tells_sleeps and not result.error:
            often = [quartiles(result.sides[side].sleeps)[1] for side in ("stdlib", "fastmp")]
            rows.append(_cells(result.row.name, *(f"{count:.2f}" for count in often)))
    return _lines(["Round trip", "stdlib", "fastmp"], rows) if rows else ""


def growth(results):
    made, series = [], {}
    for result in results:
        if result.row.series:
            series.setdefault(result.row.series, []).append(result)
    for name, points in series.items():
        rows = []
        for result in points:
            if result.error:
                rows.append(_cells(f"{result.row.at:,}", "", "", result.error))
            else:
                rows.append(_cells(f"{result.row.at:,}", *_figures(result), _ratio(result)))
        made.append(f"{name}:\n\n{_lines(['', 'stdlib', 'fastmp', 'ratio'], rows)}")
    return "\n".join(made)


def goals(runs):
    """What each run found of each goal, whether it was met in all of them, and what could be."""
    found = {}  # (goal, what it asks for) -> run -> Check
    for number, results in enumerate(runs):
        for goal, check in verdicts(results):
            found.setdefault((goal, check.what), {})[number] = check
    rows = []
    for (goal, what), by_run in found.items():
        checks = [by_run.get(number) for number in range(len(runs))]
        figures = [check.figure or "" if check else "" for check in checks]
        verdict = _in_how_many([check.is_met if check else None for check in checks])
        rows.append(_cells(goal.row, what, *figures, verdict + _reach(goal, checks)))
    names = [f"run {number}" for number in range(1, len(runs) + 1)]
    head = ["Work", "goal", *(names if len(runs) > 1 else ["measured"]), ""]
    return _lines(head, rows) if rows else ""


def _in_how_many(mets):
    if not any(met is not None for met in mets):
        return "not measured"
    if all(mets):
        return "met"
    return "**not met**" if not any(mets) else f"**met in {mets.count(True)} of {len(mets)}**"


def _reach(goal, checks):
    """Of the runs that did not meet it: what the least that there is to do would have got."""
    of_runs = [check.alone for check in checks if check and check.is_met is False and check.alone]
    return f"; {goal.alone(*of_runs)}" if of_runs else ""


def missing(results):
    """Who was not measured, and why, each reason once."""
    reasons = {}
    for result in results:
        for side, reason in result.missing.items():
            reasons.setdefault((side, reason), []).append(result.row.name)
    rows = []
    for (side, reason), names in reasons.items():
        where = "everywhere" if reason == "not installed" else "; ".join(names)
        rows.append(_cells(side.removeprefix("limit: "), reason.replace("|", "\\|"), where))
    return _lines(["Side", "why", "where"], rows) if rows else "Nobody was missing.\n"
