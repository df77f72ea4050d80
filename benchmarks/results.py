"""Results to and from pyperf's files.

A benchmark is one side of one row, "row [side]", with all its samples as one run; loops is the
operations of a sample, and the order of the values is that of the rounds, so that ratios of rounds
can be had from a file. What pyperf does not know goes into its metadata: the row, the side, how
often it slept. A side that could not be measured has no benchmark; why stands beside the others'.
"""

import json
import sys

import pyperf

from . import suites
from .measure import Measured, Result
from .rows import ROWS

ABOUT = ("python", "system", "cpu", "cpus", "load", "date", "start_method", "quick")
LEAST = 1e-12  # pyperf wants values above zero; a memory row may have none


def as_suite(results):
    """The pyperf.BenchmarkSuite of these results; None if no side of any could be measured."""
    benchmarks = [
        _benchmark(result, name, measured)
        for result in results
        for name, measured in result.sides.items()
    ]
    return pyperf.BenchmarkSuite(benchmarks) if benchmarks else None


def _benchmark(result, side, measured):
    metadata = {
        **result.about,
        "name": f"{result.row.name} [{side}]",
        "row": result.row.name,
        "side": side,
        "kind": measured.kind,
        "unit": result.row.unit,
        "loops": measured.loops,
        "sleeps": json.dumps([round(sleeps, 6) for sleeps in measured.sleeps]),
    }
    if result.missing:
        metadata["missing"] = json.dumps(result.missing)
    values = [max(value, LEAST) for value in measured.values]
    run = pyperf.Run(values, metadata=metadata, collect_metadata=False)
    return pyperf.Benchmark([run])


def write(path, suite):
    """To a file, to standard output ("-"), or to one a side where the path says {side}."""
    if suite is None:
        return
    if path == "-":
        suite.dump(sys.stdout)
    elif "{side}" in path:
        for side in dict.fromkeys(bench.get_metadata()["side"] for bench in suite):
            _of_side(suite, side).dump(path.replace("{side}", side), replace=True)
    else:
        suite.dump(path, replace=True)


def _of_side(suite, side):
    """One side alone, its benchmarks named by their rows: what pyperf compare_to takes."""
    benchmarks = []
    for bench in suite:
        metadata = bench.get_metadata()
        if metadata["side"] == side:
            metadata["name"] = metadata["row"]
            run = pyperf.Run(bench.get_values(), metadata=metadata, collect_metadata=False)
            benchmarks.append(pyperf.Benchmark([run]))
    return pyperf.BenchmarkSuite(benchmarks)


def read(paths):
    """The results in these files, later ones in place of earlier ones."""
    results = {}
    for path in paths:
        suite = pyperf.BenchmarkSuite.load(str(path))
        seen = set()
        for bench in suite:
            metadata = bench.get_metadata()
            row = ROWS.get(metadata["row"])
            if row is None:
                continue  # of a benchmark that is no more
            if row.name not in seen:
                seen.add(row.name)
                about = {key: metadata[key] for key in ABOUT if key in metadata}
                missing = json.loads(metadata.get("missing", "{}"))
                results[row.name] = Result(row, {}, missing, about)
            results[row.name].sides[metadata["side"]] = Measured(
                metadata["kind"],
                metadata["loops"],
                None,
                list(bench.get_values()),
                json.loads(metadata["sleeps"]),
            )
    found = [results[name] for name in ROWS if name in results]
    return sorted(found, key=lambda result: suites.NAMES.index(result.row.suite))
