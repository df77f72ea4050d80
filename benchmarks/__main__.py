"""The command: measure, print the table, write JSON."""

import argparse
import compileall
import json
import os
import platform
import sys
import warnings

import fastmp

from . import channels, locks, pools, processes, values  # noqa: F401 (they register their rows)
from .measure import ROWS, Plan, measure
from .report import as_json, heading, line, summary

SUITES = ("lock", "value", "array", "queue", "pipe", "large", "process", "pool", "manager")


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Times fastmp against the standard library's multiprocessing, in turn.",
    )
    parser.add_argument("--suite", choices=SUITES, action="append", help="only this one (repeat)")
    parser.add_argument("--row", help="only rows with this in their name")
    parser.add_argument("--method", choices=["fork", "spawn", "forkserver"], default="fork")
    parser.add_argument("--rounds", type=int, help="samples of each side (default 11; quick: 3)")
    parser.add_argument("--quick", action="store_true", help="few and short samples: does it run?")
    parser.add_argument("--json", metavar="FILE", help="write every sample to FILE (- for stdout)")
    parser.add_argument("--list", action="store_true", help="print the rows and leave")
    options = parser.parse_args(arguments)
    if options.rounds is not None and options.rounds < 2:
        parser.error("--rounds must be at least 2: without a spread, figures say nothing")
    return options


def plan_of(options):
    if options.quick:
        return Plan(options.rounds or 3, 0.003, 30.0, options.method, True)
    return Plan(options.rounds or 11, 0.1, 120.0, options.method, False)


def main(arguments=None):
    options = parse_arguments(arguments)
    rows = [
        row
        for row in sorted(ROWS, key=lambda row: SUITES.index(row.suite))
        if (not options.suite or row.suite in options.suite)
        and (not options.row or options.row in row.name)
    ]
    if options.list:
        for row in rows:
            print(f"{row.suite:8} {row.name}")
        return 0
    # One row has several of the stdlib's pools and queues open, and their threads.
    warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)

    # As installers do. Without, and told not to write bytecode, each child would compile it.
    compileall.compile_dir(os.path.dirname(fastmp.__file__), quiet=2)

    plan = plan_of(options)
    table = sys.stderr if options.json == "-" else sys.stdout
    print(heading(machine(), plan), file=table)
    results = []
    for row in rows:
        results.append(measure(row, plan))
        print(line(results[-1]), file=table, flush=True)
    print(summary(results), file=table)
    if options.json:
        write_json(options.json, as_json(machine(), plan, results))
    return 1 if any(result.error for result in results) else 0


def machine():
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)),
    }


def write_json(path, document):
    text = json.dumps(document, indent=1)
    if path == "-":
        print(text)
    else:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
