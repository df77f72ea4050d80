"""The command: measure, print the table, write files."""

import argparse
import compileall
import contextlib
import datetime
import importlib.util
import os
import platform
import signal
import sys

from . import limits, peers, suites  # noqa: F401 (peers registers its ways)
from .measure import Plan, measure
from .rows import ROWS
from .sides import FASTMP, STDLIB, peers_named

MISSING = """\
this needs {name}, which is not installed for {python}.
`make bench` sets up an environment that has them; or: pip install -r benchmarks/requirements.txt"""


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Times fastmp against the standard library's multiprocessing, its peers and "
        "the limits of the machine, in turn.",
    )
    parser.add_argument(
        "--suite",
        choices=suites.NAMES,
        action="append",
        metavar="NAME",
        help="only this one (repeat)",
    )
    parser.add_argument("--full", action="store_true", help="every suite; without: the short ones")
    parser.add_argument("--row", help="only rows with this in their name")
    parser.add_argument("--peers", default="", help="all, or ray,pyzmq,... (with their limits)")
    parser.add_argument("--limits", action="store_true", help="the limits of the machine, in C")
    parser.add_argument("--goals", action="store_true", help="what is aimed at, and what is met")
    parser.add_argument("--method", choices=["fork", "spawn", "forkserver"], default="fork")
    parser.add_argument("--rounds", type=int, help="samples of each side (default 11; quick: 3)")
    parser.add_argument("--quick", action="store_true", help="few and short samples: does it run?")
    parser.add_argument(
        "--json", metavar="FILE", help="pyperf's format (-: stdout; {side}.json: one for each side)"
    )
    parser.add_argument("--plot", metavar="FILE", help="the chart, .svg or .png")
    parser.add_argument("--curves", metavar="FILE", help="the charts of the suite growth")
    parser.add_argument("--write-docs", action="store_true", help="renew docs/performance.md")
    parser.add_argument(
        "--from", dest="files", metavar="FILE", action="append", default=[],
        help="measure nothing, take what --json wrote (repeat: where two have a row, the later's)",
    )  # fmt: skip
    parser.add_argument(
        "--beside", metavar="FILE,...", action="append", default=[],
        help="what --json wrote of another run: its column among the goals",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="print the rows and leave")
    options = parser.parse_args(arguments)
    if options.rounds is not None and options.rounds < 2:
        parser.error("--rounds must be at least 2: without a spread, figures say nothing")
    if options.files and options.json:
        parser.error("--from measures nothing, so there is nothing to write with --json")
    try:
        options.peers = peers_named(options.peers)
    except ValueError as error:
        parser.error(str(error))
    return options


def plan_of(options):
    if options.quick:
        return Plan(options.rounds or 3, 0.003, 30.0, options.method, True)
    return Plan(options.rounds or 11, 0.1, 120.0, options.method, False)


def rows_of(options):
    """Those asked for; a suite that is named is always among them, else the short ones are."""
    wanted = options.suite or (suites.NAMES if options.full or options.row else suites.SHORT)
    rows = [row for row in ROWS.values() if row.suite in wanted]
    if options.row:
        rows = [row for row in rows if options.row in row.name]
    return sorted(rows, key=lambda row: suites.NAMES.index(row.suite))


def main(arguments=None):
    options = parse_arguments(arguments)
    if options.list:
        for row in rows_of(options):
            print(f"{row.suite:10} {row.name}")
        return 0
    drawing = options.plot or options.curves or options.write_docs
    for name in ("pyperf", "matplotlib") if drawing else ("pyperf",):
        if importlib.util.find_spec(name) is None:
            print(MISSING.format(name=name, python=sys.executable), file=sys.stderr)
            return 2
    from . import chart, documents, report, results

    table = sys.stderr if options.json == "-" else sys.stdout
    if options.files:
        found = results.read(options.files)
        for result in found:
            print(report.line(result), file=table)
    else:
        with ended_by_sigterm():
            found = take(rows_of(options), options, table)
    print(report.summary(found), file=table)
    if options.goals:
        print(report.goals(found), file=table)
    if options.json == "-":
        results.write("-", results.as_suite(found))
    if options.plot:
        chart.draw(found, options.plot)
    if options.curves:
        chart.curves(found, options.curves)
    if options.write_docs:
        documents.write(found, [results.read(files.split(",")) for files in options.beside])
    return 1 if any(result.error for result in found) else 0


@contextlib.contextmanager
def ended_by_sigterm():
    """SIGTERM is SystemExit in the block, so that it ends the sides too."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def take(rows, options, table):
    """Measure row after row. What there is of a long run is in the file, however it ends."""
    from . import report, results

    plan, found = plan_of(options), []
    print(report.heading(conditions(plan), plan), file=table)
    with_limits = options.limits or options.goals or options.full or bool(options.peers)
    if with_limits:
        limits.build()
    # As installers do. Without, and told not to write bytecode, each child would compile it.
    package = importlib.util.find_spec(FASTMP.module).submodule_search_locations[0]
    compileall.compile_dir(package, quiet=2)
    compileall.compile_file(os.path.join(package, os.pardir, "_fastmp_hook.py"), quiet=2)
    sides = [FASTMP, STDLIB, *options.peers]
    for row in rows:
        about = conditions(plan)
        found.append(measure(row, sides, plan, with_limits))
        found[-1].about = about
        print(report.line(found[-1]), file=table, flush=True)
        if options.json not in (None, "-"):
            results.write(options.json, results.as_suite(found))
    return found


def conditions(plan):
    """What the figures of a row are of, as it stands in the files."""
    return {
        "python": f"CPython {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "load": f"{os.getloadavg()[0]:.1f}",
        "date": datetime.datetime.now().isoformat(" ", "minutes"),
        "start_method": plan.method,
        "quick": int(plan.quick),
    }


def _cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
