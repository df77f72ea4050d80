"""``python -m tests.crash``: steps through the protocols of the C floors, and through mutants.

Builds tests/crash/*.c on the floors below Python, with ticks and without, and runs every scenario
at every instruction (see stepper.h); then mutants.py's. Exit code 1: a violation, or a mutant that
was not caught. ``--quick`` takes a few instructions of each operation, others each day, and the
mutants marked for it.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import time
from typing import NamedTuple

from tests.crash.mutants import MUTANTS, NO_TICKS, TICKS

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build" / "crash"
HEAD = (
    f"{'scenario':22}{'variant':10}{'instr.':>8}{'worlds':>8}{'kills':>8}{'pauses':>8}"
    f"{'wrong':>8}{'s':>8}"
)
#: violations of a mutant in each scenario, then it is enough; points of each operation in CI
MUTANT_ENOUGH, QUICK_POINTS = 20, 6


def build(variant, where=ROOT, more=""):
    command = ["make", "-s", "-j2", "-f", "tests/crash/Makefile", f"VARIANT={variant}"]
    command += [f"MORE={more}"]
    subprocess.run(command, cwd=where, check=True)
    return where / "build" / "crash" / variant / "stepper"


class Row(NamedTuple):
    """What a stepper prints about a scenario."""

    scenario: str
    length: int
    worlds: int
    kills: int
    pauses: int
    wrong: int


def step(program, arguments, show=False):
    """Runs a stepper; returns the rows of its table."""
    rows = []
    with subprocess.Popen([program, *map(str, arguments)], stdout=-1, text=True) as process:
        for line in process.stdout:
            if show:
                print(line, end="", flush=True)
            fields = line.split()
            if len(fields) >= 8 and all(field.isdigit() for field in fields[-6:-1]):
                rows.append(Row(fields[0], *map(int, fields[-6:-1])))
    if process.returncode not in (0, 1) or (process.returncode == 1) != any(r.wrong for r in rows):
        raise RuntimeError(f"{program} ended with {process.returncode}")
    return rows


def mutate(mutant):
    """A copy of the sources and of what was built from them, with the mutant's change.

    None if the text that it changes does not occur once."""
    where = BUILD / "mutant"
    shutil.rmtree(where, ignore_errors=True)
    for part in ("csrc", "tests/c", "tests/crash"):
        shutil.copytree(ROOT / part, where / part)  # with their times: only the change is built
    for variant in (TICKS, NO_TICKS):
        shutil.copytree(BUILD / variant, where / "build" / "crash" / variant)
    path = where / "csrc" / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        return None
    path.write_text(text.replace(mutant.old, mutant.new))
    return where


def catch(mutant, arguments):
    """Whether the stepper catches it; prints where."""
    variant, *scenarios = mutant.caught_by
    where = mutate(mutant)
    if where is None:
        print(f"{mutant.name:74}DOES NOT APPLY: mutants.py does not know {mutant.file} any more")
        return False
    rows = step(build(variant, where, "-w"), [*arguments, "--points", mutant.points, *scenarios])
    caught = [f"{row.scenario} {row.wrong} of {row.worlds}" for row in rows if row.wrong]
    found = ", ".join(caught) + f" ({variant})" if caught else "NOT CAUGHT"
    print(f"{mutant.name:74}{found}", flush=True)
    return bool(caught)


def run_scenarios(options):
    """Runs the scenarios with ticks and without; returns how many violations there were."""
    points = options.points or (QUICK_POINTS if options.quick else 0)
    arguments = ["--jobs", options.jobs, "--offset", options.offset, "--points", points]
    print(HEAD, flush=True)
    rows = []
    for variant in (TICKS, NO_TICKS):
        rows += step(build(variant), [*arguments, *options.scenario], show=True)
    if not rows:
        raise SystemExit("no such scenario")
    worlds, kills, pauses, wrong = (sum(column) for column in list(zip(*rows, strict=True))[2:])
    print(f"{worlds:,} worlds, {kills:,} kills, {pauses:,} pauses, {wrong:,} violations\n")
    return wrong


def run_mutants(options):
    """Runs the mutants; returns how many were not caught."""
    arguments = ["--jobs", options.jobs, "--offset", options.offset]
    arguments += ["--stop-after", 1 if options.quick else MUTANT_ENOUGH]
    for variant in (TICKS, NO_TICKS):
        build(variant)
    chosen = [
        m for m in MUTANTS if (m.quick or not options.quick) and (options.mutants or "") in m.name
    ]
    missed = sum(not catch(mutant, arguments) for mutant in chosen)
    print(f"{len(chosen)} mutants, {missed} not caught")
    return missed


def main():
    parser = argparse.ArgumentParser(description="Kill and pause at every instruction.")
    parser.add_argument("--quick", action="store_true", help="what CI runs")
    parser.add_argument("--points", type=int, default=0, help="of each operation; default: all")
    parser.add_argument("--offset", type=int, default=int(time.time()) // 86400)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--mutants", nargs="?", const="", metavar="TEXT", help="only (such) mutants"
    )
    parser.add_argument("scenario", nargs="*", help="only these; default: all, and the mutants")
    options = parser.parse_args()
    begin, wrong, missed = time.monotonic(), 0, 0
    if options.mutants is None:
        wrong = run_scenarios(options)
    if not options.scenario:
        missed = run_mutants(options)
    print(f"{time.monotonic() - begin:.0f} s")
    return 1 if wrong or missed else 0


if __name__ == "__main__":
    sys.exit(main())
