"""Whole programs, from the interpreter's start to its end: the examples, under either package."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from ..rows import Unable, expect, row, timed

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples" / "seeds").glob("*.py"))
EXAMPLES = [path for path in EXAMPLES if path.stem != "tutorial_0_syntax"]  # ends in a NameError
# The examples sleep for minutes in all, to no other end than to show that they overlap.
SLEEP = "0"

# The program as its author would have written it for one package: the other is not imported.
WORDCOUNT = """\
import sys
if sys.argv[1] == "multiprocessing":
    import multiprocessing
    sys.modules["fastmp"] = multiprocessing
sys.path.insert(0, sys.argv[2])
import importlib
import os
from pathlib import Path

import wordcount

if __name__ == "__main__":
    context = importlib.import_module(sys.argv[1]).get_context(sys.argv[3])
    paths = wordcount.python_files(Path(sys.argv[4]))
    cpus = len(os.sched_getaffinity(0))
    counts, undecodable = wordcount.count_in_pool(context, cpus, paths, sys.argv[1])
    print(len(paths), undecodable, sum(counts.values()), len(counts), *counts.most_common(3))
"""


def _run(arguments, environment):
    return subprocess.run(
        arguments,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        text=True,
    ).stdout


@row("program", "Program: examples/wordcount.py", count=1, rounds=15)
def wordcount(side):
    stdlib = Path(sysconfig.get_path("stdlib"))
    root = stdlib / "json" if side.quick else stdlib
    folder = str(ROOT / "examples")
    answers = set()

    def sample(n):
        arguments = [side.module, folder, side.method, str(root)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        seconds, answer = timed(_run, [sys.executable, "-c", WORDCOUNT, *arguments], environment)
        answers.add(answer)
        expect(len(answers), 1)
        return seconds

    yield sample
    expect(int(answers.pop().split()[0]) > 0, True)


@row("program", "Program: the documents' examples, one after another", count=1, rounds=11)
def examples(side):
    """`python script.py` for the standard library, `python -m fastmp script.py`."""
    if side.name not in ("stdlib", "fastmp"):
        raise Unable("the examples import multiprocessing")
    site = os.pathsep.join([str(ROOT / "tests" / "support" / "site"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": site}
    environment.update(FASTMP_TEST_SLEEP=SLEEP, FASTMP_TEST_METHOD=side.method)
    package = ["-m", "fastmp"] if side.is_fastmp else []
    scripts = EXAMPLES[:2] if side.quick else EXAMPLES

    def run_all():
        printed = 0
        for script in scripts:
            environment["FASTMP_TEST_SCRIPT"] = str(script)
            out = _run([sys.executable, *package, str(script)], environment)
            printed += len(out.splitlines())
        return printed

    def sample(n):
        seconds, printed = timed(run_all)  # that they print the same is tests/test_examples.py's
        expect(printed >= len(scripts), True)
        return seconds

    yield sample
