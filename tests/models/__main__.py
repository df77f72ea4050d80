"""``python -m tests.models [MODEL ...]``: checks the Spin models, and that mutants of them fail.

Each line of RUNS is a model, its switches (see the model and kernel.pml), and whether it holds.
A model that holds was searched to the end: every interleaving of its processes, with every kill.
A mutant (a wake-up left out, two steps exchanged, a recheck dropped) that held would mean that the
model proves nothing about what the mutant breaks.

Needs spin and a C compiler. Exit code 1 when an outcome is not the expected one.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
SECONDS = 600  # for one search
MEGABYTES = 4000

HOLDS, FAILS = True, False

#: model, switches, outcome
RUNS = [
    ("lock", "", HOLDS),
    ("lock", "N=2 ROUNDS=2", HOLDS),
    ("lock", "K=1 TICK=1", HOLDS),
    ("lock", "K=2 TICK=2", HOLDS),
    ("lock", "K=1", FAILS),  # a dead holder is only found at a tick
    ("lock", "MUTANT_NO_WAKE", FAILS),
    ("lock", "MUTANT_COUNTS_LATE", FAILS),
    ("lock", "K=1 TICK=1 MUTANT_RECOVERS_BLINDLY", FAILS),
    ("lock", "K=1 TICK=2 MUTANT_NO_RECOVERY", FAILS),
    ("glance", "", HOLDS),
    ("glance", "N=4 ROUNDS=1", HOLDS),
    ("glance", "K=2", HOLDS),
    ("glance", "MUTANT_COUNTS_LATE", FAILS),
    ("glance", "K=1 MUTANT_RECOVERY_DOES_NOT_COUNT", FAILS),
    ("glance", "MUTANT_LOOKS_AT_NO_WORD", FAILS),
    ("glance", "MUTANT_BELIEVES_AT_ONCE", FAILS),
    ("queue", "", HOLDS),
    ("queue", "MAX=1", HOLDS),
    ("queue", "NC=1 NP=2 PUTS=2", HOLDS),
    ("queue", "K=1 TICK=1 PUTS=3", HOLDS),
    ("queue", "K=1 TICK=2 PUTS=2", HOLDS),
    ("queue", "K=1 TICK=2 PUTS=2 MAX=1", HOLDS),
    ("queue", "K=1 PUTS=2", FAILS),  # what a dead putter did not wake, a tick does
    ("queue", "K=1 TICK=1 MUTANT_CAPACITY_FIRST", FAILS),
    ("queue", "MUTANT_COMMITS_FIRST", FAILS),
    ("queue", "MAX=1 MUTANT_FREES_FIRST", FAILS),
    ("queue", "MUTANT_PUT_WAKES_NOBODY", FAILS),
    ("queue", "MAX=1 MUTANT_TAKE_WAKES_NOBODY", FAILS),
    ("condition", "", HOLDS),
    ("condition", "N=4 TIMEOUTS", HOLDS),
    ("condition", "K=1 TICK=1", HOLDS),
    ("condition", "K=1 TICK=2", HOLDS),
    ("condition", "K=1 TICK=2 TIMEOUTS", HOLDS),
    ("condition", "MUTANT_NOTIFY_WAKES_NOBODY", FAILS),
    ("condition", "TIMEOUTS MUTANT_TIMEOUT_SWALLOWS", FAILS),
    ("condition", "K=1 TICK=2 MUTANT_ZOMBIE_KEEPS_IT", FAILS),
    ("event", "", HOLDS),
    ("event", "N=4", HOLDS),
    ("event", "K=1 TICK=1", HOLDS),
    ("event", "K=2 TICK=2", HOLDS),
    ("event", "K=1", FAILS),  # what a dead setter did not wake, a tick does
    ("event", "MUTANT_WAKES_NOBODY", FAILS),
    ("event", "MUTANT_WAKES_FIRST", FAILS),
    ("event", "MUTANT_DOES_NOT_COUNT", FAILS),
    ("extent", "", HOLDS),
    ("extent", "NT=2 PUTS=4", HOLDS),
    ("extent", "K=1", HOLDS),
    ("extent", "K=1 NT=2 PUTS=4", HOLDS),
    ("extent", "MUTANT_IGNORES_LEASES", FAILS),
    ("extent", "MUTANT_LEASES_FIRST", FAILS),
    ("extent", "MUTANT_COMMITS_FIRST", FAILS),
    ("extent", "MUTANT_COPIES_AFTER_THE_COMMIT", FAILS),
    ("extent", "K=1 MUTANT_NAMED_AFTER_THE_COMMIT", FAILS),
    ("claim", "K=1", HOLDS),
    ("claim", "K=2", HOLDS),
    ("claim", "K=1 MUTANT_CLAIMS_LATE", FAILS),
    ("claim", "K=1 MUTANT_UNCLAIMS_EARLY", FAILS),
    ("claim", "K=1 MUTANT_RESULTS_FIRST", FAILS),
    ("claim", "K=1 MUTANT_LOOKS_AT_NO_OTHER", FAILS),
]


def search(model, switches):
    """Search all states of *model*; returns (held, states, what the verifier said first)."""
    defines = [f"-D{switch}" for switch in switches.split()]
    with tempfile.TemporaryDirectory(prefix="fastmp-models-") as where:

        def call(*command):
            return subprocess.run(
                command, cwd=where, stdout=-1, stderr=-2, text=True, timeout=SECONDS
            ).stdout

        said = call("spin", "-a", *defines, str(HERE / f"{model}.pml"))
        memory = f"-DMEMLIM={MEGABYTES}"
        said += call("cc", "-O1", "-w", "-DSAFETY", "-DCOLLAPSE", memory, "-o", "pan", "pan.c")
        # -E: who sleeps in the end is judged by the model's own assertions.
        said += call("./pan", "-E", "-m1000000")
    errors = re.search(r"errors: (\d+)", said)
    if errors is None or "max search depth too small" in said or "reached -DMEMLIM" in said:
        raise RuntimeError(f"{model} {switches}: no verdict\n{said}")
    states = int(re.search(r"(\d+) states, stored", said)[1])
    why = re.search(r"assertion violated (.*) \(at depth", said)
    return errors[1] == "0", states, why[1] if why else ""


def main():
    parser = argparse.ArgumentParser(description="Check the Spin models and their mutants.")
    models = sorted({model for model, *_ in RUNS})
    parser.add_argument("model", nargs="*", help=f"of {', '.join(models)}; default: all")
    chosen = parser.parse_args().model or models
    if unknown := set(chosen) - set(models):
        parser.error(f"no such model: {', '.join(sorted(unknown))}")
    if shutil.which("spin") is None:
        parser.error("spin is not installed (Debian's package spin)")
    begin, wrong = time.monotonic(), 0
    runs = [run for run in RUNS if run[0] in chosen]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        results = threads.map(lambda run: search(*run[:2]), runs)
        for (model, switches, expected), (held, states, why) in zip(runs, results, strict=True):
            verdict = "holds" if held else f"fails: {why}"
            if held is not expected:
                wrong += 1
                verdict += f"   UNEXPECTED, it should {'hold' if expected else 'fail'}"
            print(f"{model:10}{switches:42}{states:9,} states  {verdict[:200]}", flush=True)
    print(f"{len(runs)} searches, {wrong} unexpected, {time.monotonic() - begin:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
