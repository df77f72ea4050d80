"""``python -m tests.stress --minutes 5``: storms, round after round; exit code 1 on a violation.

Each round is a scenario under a start method, chosen in turn, and prints a line. A violation is
printed with what is known of it; ``--seed`` and ``--scenario`` of its line repeat the round as far
as the scheduler allows.
"""

import argparse
import os
import sys
import tempfile
import time

from tests.support import census, procs
from tests.support.watchdog import Watchdog

from . import rounds


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.stress", description="Kill storms through fastmp's public API."
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--round", type=float, default=5.0, help="seconds of storm in a round")
    parser.add_argument("--seed", type=int, help="of the first round; each later one's is one more")
    parser.add_argument("--method", default="all", choices=[*rounds.METHODS, "all"])
    parser.add_argument(
        "--scenario", action="append", choices=list(rounds.SCENARIOS), help="default: all in turn"
    )
    parser.add_argument("--rounds", type=int, help="stop after so many")
    return parser.parse_args()


def main() -> int:
    options = parse()
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(3), "big")
    methods = rounds.METHODS if options.method == "all" else (options.method,)
    names = options.scenario or list(rounds.SCENARIOS)
    procs.lead_a_session()
    os.environ["PYTHONFAULTHANDLER"] = "1"
    census.mark_semaphores()
    bad = done = kills = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fastmp-stress-watchdog-") as directory:
        watchdog = Watchdog(directory, 120.0)
        while time.monotonic() - began < options.minutes * 60 and done != options.rounds:
            name = names[done % len(names)]
            method = methods[done // len(names) % len(methods)]
            watchdog.arm(f"{name} {method} seed {seed}", options.round + 120.0)
            report = rounds.run(rounds.SCENARIOS[name], method, seed, options.round)
            watchdog.disarm()
            hung = watchdog.report()
            if hung is not None:
                report.violations.append(hung)
            print(report, flush=True)
            for violation in report.violations:
                print("  VIOLATION:", violation.replace("\n", "\n    "), flush=True)
            bad += bool(report.violations)
            kills += report.kills + report.terms
            done += 1
            seed += 1
        watchdog.close()
    minutes = (time.monotonic() - began) / 60
    print(f"{done} rounds in {minutes:.1f} minutes, {kills} kills, {bad} rounds with violations")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
