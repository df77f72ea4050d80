"""``python -m tests.cpython``: see the package."""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from . import environment, report, suites
from .compare import SuiteReport
from .side import SIDES, Limits, NotListed, Result, SuiteRun, ids_of, modules_of
from .suites import METHODS, SUITES, Suite


class Task(NamedTuple):
    """A suite that is to be run."""

    suite: Suite
    modules: tuple[str, ...]
    ids: list[str]
    lender: str


DOCUMENT = environment.ROOT / "docs" / "conformance.md"


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.cpython", description=__doc__)
    add = parser.add_argument
    add("--python", action="append", help="3.10 to 3.13; may be repeated (default: 3.13)")
    add(
        "--method",
        action="append",
        choices=[*METHODS, "other"],
        help="the suite of that start method, or those of none; may be repeated (default: all)",
    )
    add("--suite", action="append", help="that suite alone; may be repeated")
    add(
        "--and-part-of-the-day",
        action="store_true",
        help="besides, one method's suites on one Python, another each day (for CI)",
    )
    add("--ids", default="*", help="a pattern: those ids alone; the results are not kept")
    add("--build", action="store_true", help="build fastmp for that Python first")
    add("--jobs", type=int, default=2, help="how many processes run tests at once (default: 2)")
    add("--still", type=float, default=Limits.still, help="seconds that a test may take")
    add(
        "--json",
        type=Path,
        default=environment.BUILD / "results",
        help="the directory for the results, a file for each Python and suite",
    )
    add(
        "--write-docs", action="store_true", help="put the results there into the document, and end"
    )
    add("--list", action="store_true", help="print the suites, and run nothing")
    return parser.parse_args(argv)


def default_signals() -> None:
    """Let what is started from here have SIGINT and SIGQUIT, and end it at SIGTERM.

    A job in the background of a shell inherits them ignored, and a Python that does so has no
    KeyboardInterrupt: test_wait_result would never end.
    """
    for signum in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))


def prepare(python: environment.Interpreter, chosen: list[Suite], pattern: str) -> list[Task]:
    """What there is to run of each suite: its modules and ids."""
    found = []
    for suite in chosen:
        modules, lender = modules_of(python, suite)
        if lender:
            modules = tuple(filter(functools.partial(can_be_loaded, python, suite), modules))
        if not modules or lender:
            instead = f"{lender}'s is" if lender else "not"
            print(f"NOTE: {suite.name} is not part of this CPython {python.release}: {instead} run")
        if not modules:
            continue
        ids = [name for name in ids_of(python, suite, modules) if fnmatchcase(name, pattern)]
        if ids:
            found.append(Task(suite, modules, ids, lender))
    return found


def can_be_loaded(python: environment.Interpreter, suite: Suite, module: str) -> bool:
    """Whether a module of another Python's can be used by this one."""
    try:
        ids_of(python, suite, [module])
    except NotListed:
        print(f"NOTE: {module} is of no use to CPython {python.release}: not run")
        return False
    return True


def both_sides(
    python: environment.Interpreter,
    tasks: list[Task],
    workspace: Path,
    options: argparse.Namespace,
) -> Iterator[tuple[Task, Result, Result]]:
    """Run each suite on both sides, so many at once as there are jobs: (task, stdlib, fastmp)."""
    limits, stop = Limits(still=options.still), threading.Event()
    with ThreadPoolExecutor(options.jobs) as threads:

        def submit(side: str, task: Task) -> Future[Result]:
            how = task.suite, task.modules, task.ids, side, workspace, limits, stop
            return threads.submit(SuiteRun(python, *how))

        sides = [(task, [submit(side, task) for side in SIDES]) for task in tasks]
        try:
            for task, (stdlib, fastmp) in sides:
                yield task, stdlib.result(), fastmp.result()
        finally:  # at the end, or because of ^C or SIGTERM
            stop.set()
            threads.shutdown(cancel_futures=True)


def run(version: str, chosen: list[Suite], options: argparse.Namespace) -> list[SuiteReport]:
    """Run the suites on that Python, both sides of each."""
    if options.build:
        environment.build(version)
    workspace = options.json / version
    workspace.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="fastmp-cpython-"))
    try:
        python = environment.make(version, directory / "env")
        print(f"CPython {python.release}", flush=True)
        tasks = prepare(python, chosen, options.ids)
        reports = []
        for (suite, _, _, lender), stdlib, fastmp in both_sides(python, tasks, workspace, options):
            made = SuiteReport(
                suite.name, version, python.release, stdlib, fastmp, suite.imports, lender
            )
            tell(made)
            if options.ids == "*":
                path = workspace / f"{made.suite}.json"
                path.write_text(json.dumps(made.as_json(), indent=1))
            reports.append(made)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return reports


def tell(made: SuiteReport) -> None:
    """Say how a suite ended, at length where something is wrong."""
    print(
        f"\n{made.suite}: {len(made.stdlib.outcomes)} ids, stdlib {made.stdlib.seconds:.0f} s, "
        f"fastmp {made.fastmp.seconds:.0f} s; {report.told(made.fastmp)}"
    )
    for each in made.differences():
        if each.allowed:
            print(f"  allowed: {each.test_id} {each.on_fastmp}: {each.allowed}")
    for complaint in made.complaints():
        print("  DIFFERENCE " + complaint.strip().replace("\n", "\n    "))
    sys.stdout.flush()


def plan(chosen: list[Suite], options: argparse.Namespace) -> Iterator[tuple[str, list[Suite]]]:
    """Which suites are run on which Python."""
    for version in options.python or ["3.13"]:
        yield version, chosen
    if options.and_part_of_the_day:
        today = datetime.now(timezone.utc).date()
        version, method = suites.part_of(today)
        print(f"The part of {today}: --python {version} --method {method}", flush=True)
        yield version, suites.choose([method], [])


def main(argv: list[str] | None = None) -> int:
    """Run, print the table; 0 if fastmp did as the stdlib."""
    options = arguments(argv)
    try:
        chosen = suites.choose(options.method or [], options.suite or [])
    except ValueError as e:
        print(e, file=sys.stderr)
        return 2
    if options.list:
        for suite in chosen:
            print(f"{suite.name:30} {suite.method or 'other':10} {' '.join(suite.modules)}")
        return 0
    if options.write_docs:
        files = sorted(options.json.glob("*/*.json"))
        kept = [SuiteReport.from_json(json.loads(path.read_text())) for path in files]
        report.write_table(DOCUMENT, kept, [suite.name for suite in SUITES])
        return 0
    default_signals()
    reports: list[SuiteReport] = []
    for version, those in plan(chosen, options):
        try:
            reports += run(version, those, options)
        except (environment.NotAvailable, NotListed) as e:
            print(e, file=sys.stderr)
            return 2
    print("\nEach figure: the stdlib's / fastmp's\n" + report.printed(reports))
    bad = [each for each in reports if each.complaints()]
    print(f"FAILED: {', '.join(f'{each.python} {each.suite}' for each in bad)}" if bad else "ok")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
