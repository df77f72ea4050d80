"""Libraries' own test suites, on fastmp and on the standard library.

    python -m tests.libs.own_suites --library joblib [--library loky ...] [-k EXPRESSION]

Each suite runs twice with this Python: plainly, and under FASTMP_INSTALL=1. Printed are the figures
side by side and every test whose outcome is not the standard library's; such a test is run once
more by itself on both sides first, since suites that measure time are unsteady on a busy machine.
The log of fastmp's run (FASTMP_LOG) must show no process with the standard library's
`multiprocessing`. Exit code 1: a difference that stayed, or a process that was not fastmp's.

The tests come from where the library publishes them: its wheel, its sdist (downloaded by pip each
time), or, for mpire, a checkout that `--source` names. Nothing of them is kept.
What the suites need is in tests/libs/requirements-suites.txt.
"""

import argparse
import importlib.metadata
import importlib.util
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

MANY = 30
OUTCOMES = ["passed", "skipped", "xfailed", "xpassed", "failed"]


@dataclass(frozen=True)
class Suite:
    """Where a library's tests are and how they are run."""

    origin: str  # "wheel", "sdist" or "source"
    tests: tuple  # files, relative to the package or to the sources; globs
    arguments: tuple = ()
    each_file: bool = False  # a process for each file: they set the start method


SUITES = {
    # Its configuration is not in the wheel; pytest would find ours, which is strict.
    "joblib": Suite("wheel", ("test",), ("-c", os.devnull)),
    "loky": Suite("sdist", ("tests",), ("--skip-high-memory", "--loky-verbosity=50")),
    "pebble": Suite("sdist", ("test/test_*process*.py",), each_file=True),
    "mpire": Suite("source", ("tests",)),
}


@dataclass
class Run:
    """What one run of a suite came to."""

    outcomes: dict  # id -> outcome
    seconds: float
    ended: bool  # by itself, with all tests run
    output: str

    def figures(self):
        count = Counter(self.outcomes.values())
        return [len(self.outcomes), *(count[outcome] for outcome in OUTCOMES)]


def sources(library, given, directory):
    """(directory to run in, the test files) of a library; *directory* is for what is downloaded."""
    suite = SUITES[library]
    if suite.origin == "wheel":
        root = Path(importlib.util.find_spec(library).submodule_search_locations[0])
    elif suite.origin == "sdist":
        root = _sdist(library, directory)
    elif given is None:
        raise SystemExit(f"{library} publishes its tests in its repository alone: give --source")
    else:
        root = Path(given).resolve()
    files = sorted(file for pattern in suite.tests for file in root.glob(pattern))
    if not files:
        raise SystemExit(f"no tests of {library} found in {root}")
    return root, files


def _sdist(library, directory):
    name = f"{library}-{importlib.metadata.version(library)}"
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
    pip += ["--no-build-isolation", "-d", directory, name.replace("-", "==")]
    subprocess.run(pip, check=True)
    with tarfile.open(Path(directory, f"{name}.tar.gz")) as archive:
        archive.extractall(directory, filter="data")
    return Path(directory, name)


def environment(fastmp_log):
    """The caller's environment with the plugin in reach, and fastmp as multiprocessing or not."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("FASTMP_")}
    env["PYTHONPATH"] = str(Path(__file__).parent)
    if fastmp_log is not None:
        env.update(FASTMP_INSTALL="1", FASTMP_LOG=str(fastmp_log))
    return env


def run(library, cwd, tests, options, fastmp_log=None):
    """Run pytest on the tests; those of a suite with `each_file` one after the other."""
    suite = SUITES[library]
    groups = [[test] for test in tests] if suite.each_file else [tests]
    total = Run({}, 0.0, True, "")
    for group in groups:
        part = _run(cwd, [*group, *suite.arguments], options, environment(fastmp_log))
        total.outcomes.update(part.outcomes)
        total.seconds += part.seconds
        total.ended &= part.ended
        total.output += part.output
    return total


def _run(cwd, arguments, options, env):
    with tempfile.TemporaryDirectory(prefix="fastmp-suites-") as directory:
        outcomes = Path(directory, "outcomes")
        outcomes.touch()
        env["SUITES_OUTCOMES"] = str(outcomes)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "suites_plugin"]
        command += ["-p", "no:cacheprovider", "-W", "default", "--rootdir", str(cwd)]
        # By a signal, whatever the suite's configuration: the other way ends the whole run.
        command += ["--timeout", str(options.test_timeout), "--timeout-method", "signal"]
        command += ["--basetemp", f"{directory}/tmp"]
        begin = time.monotonic()
        ended, output = _run_group(
            [*command, *map(str, arguments), *options.pytest], cwd, env, options.timeout
        )
        found = {}
        for line in outcomes.read_text().splitlines():
            outcome, _, nodeid = line.partition(" ")
            found[nodeid] = outcome
        return Run(found, time.monotonic() - begin, ended, output)


def _run_group(command, cwd, env, timeout):
    """Run pytest in a session of its own; (whether it ended by itself, its output)."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_default_signals,
        )
        try:
            ended = process.wait(timeout) in (0, 1)  # else it came to no end of its own
        except subprocess.TimeoutExpired:
            ended = False
        try:
            os.killpg(process.pid, signal.SIGKILL)  # also what the suite left behind
        except ProcessLookupError:
            pass
        process.wait()
        output.seek(0)
        return ended, output.read()


def _default_signals():
    """A shell's background job inherits these ignored, and suites send them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def not_fastmp(log):
    """The lines of the log that say that a process had the standard library."""
    lines = log.read_text().splitlines() if log.exists() else []
    if not any(line.split()[2] == "fastmp" for line in lines):
        raise SystemExit("no process of the run had fastmp: is fastmp.pth in this environment?")
    return [line for line in lines if line.split()[2] == "stdlib"]


def differences(stdlib, fastmp):
    """{id: (stdlib's outcome, fastmp's)} where they differ; None: the test was not reached."""
    ids = [*stdlib.outcomes, *(name for name in fastmp.outcomes if name not in stdlib.outcomes)]
    pairs = {name: (stdlib.outcomes.get(name), fastmp.outcomes.get(name)) for name in ids}
    if not (stdlib.ended and fastmp.ended):  # what one did not reach in its time tells nothing
        pairs = {name: pair for name, pair in pairs.items() if None not in pair}
        print(f"reached by both: {len(pairs)} of {len(ids)}")
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def judge(library, options):
    """Run a library's suite on both, print what came out, return whether they agree."""
    version = importlib.metadata.version(library)
    print(f"== {library} {version}, CPython {sys.version.split()[0]}", flush=True)
    with tempfile.TemporaryDirectory(prefix="fastmp-suites-") as directory:
        cwd, tests = sources(library, options.source, directory)
        log = Path(directory, "log")
        runs = {}
        for name, its_log in ("stdlib", None), ("fastmp", log):
            runs[name] = run(library, cwd, tests, options, its_log)
            figures = dict(zip(["run", *OUTCOMES], runs[name].figures(), strict=True))
            print(
                f"{name}: {figures}, {runs[name].seconds:.0f} s"
                + ("" if runs[name].ended else ", NOT TO ITS END"),
                flush=True,
            )
            if options.output:
                Path(options.output, f"{library}-{name}.txt").write_text(runs[name].output)
        differ = differences(runs["stdlib"], runs["fastmp"])
        steady = {}
        if len(differ) > MANY:
            print(
                f"{len(differ)} tests differ, too many to run them by themselves: {sorted(differ)}"
            )
            steady = dict.fromkeys(differ, "")
            differ = {}
        for test in differ:
            again = [run(library, cwd, [test], options, its_log) for its_log in (None, log)]
            pair = tuple(part.outcomes.get(test) for part in again)
            print(f"differs: {test}: {differ[test]}, alone {pair}", flush=True)
            if pair[0] != pair[1]:
                steady[test] = again[1].output
        wrong = not_fastmp(log)
    for test, output in steady.items():
        print(f"---- {test} on fastmp\n{output[-4000:]}")
    for line in wrong:
        print(f"not fastmp: {line}")
    return not steady and not wrong


def main():
    parser = argparse.ArgumentParser(
        prog="python -m tests.libs.own_suites", description="Libraries' own suites on fastmp."
    )
    parser.add_argument("--library", action="append", choices=SUITES, help="default: all")
    parser.add_argument("--source", help="a checkout of the library, for mpire")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for a run of pytest")
    parser.add_argument("--test-timeout", type=float, default=120, help="seconds for a test")
    parser.add_argument("--output", help="a directory for what pytest printed")
    parser.add_argument("pytest", nargs="*", help="further arguments for pytest, after --")
    options = parser.parse_args()
    agree = [judge(library, options) for library in options.library or SUITES]
    return 0 if all(agree) else 1


if __name__ == "__main__":
    sys.exit(main())
