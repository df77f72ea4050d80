"""Runs a program whose `multiprocessing` is fastmp, and proves that it was, in each process."""

import os
import textwrap
import time

import pytest

from tests.support import census, programs

#: How a program that knows nothing of fastmp gets it: the arguments in front of it.
WAYS = {"FASTMP_INSTALL": [], "python -m fastmp": ["-m", "fastmp"]}


def needs(*modules):
    """Skip the whole file unless all of these can be imported."""
    for module in modules:
        pytest.importorskip(
            module,
            reason=f"{module} is not installed (tests/libs/requirements.txt, make libs)",
            exc_type=ModuleNotFoundError,
        )


def run(tmp_path, text, *arguments, way="FASTMP_INSTALL", processes=2, timeout=None, **variables):
    """Run a program in one of the WAYS, or one that calls install(); the lines that it printed.

    It must end with 0 and leave no process behind. At least this many processes must have been
    reached by fastmp, and none may have had the standard library as `multiprocessing`.
    """
    file = tmp_path / "program.py"
    file.write_text(textwrap.dedent(text))
    log = tmp_path / "log"
    if way == "FASTMP_INSTALL":
        variables["FASTMP_INSTALL"] = "1"
    env = programs.environment(FASTMP_LOG=str(log), **variables)
    command = [*WAYS.get(way, []), file, *arguments]
    outcome = programs.run(command, env, timeout or programs.TIMEOUT)
    assert outcome.code == 0, f"{outcome.out}\n{outcome.err}"
    assert log.exists(), f"no process had fastmp ({way}): is fastmp.pth in this environment?"
    check_log(log.read_text(), processes)
    assert names_left({line.split()[0] for line in log.read_text().splitlines()}) == []
    return outcome.out.splitlines()


def names_left(pids, grace=5.0):
    """What loky and joblib have left in /dev/shm for these processes, after a grace."""
    deadline = time.monotonic() + grace
    while True:
        made = map(census.BY_MAKER.match, os.listdir("/dev/shm"))
        left = [name.string for name in made if name and name[1] in pids]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def check_log(text, processes):
    """Hold a FASTMP_LOG against what `run` promises."""
    lines = [line.split(maxsplit=3) for line in text.splitlines()]
    assert [line for line in lines if line[2] == "stdlib"] == []
    # One that is killed writes no last line: that its first said "-" is no complaint.
    assert len({pid for pid, *_ in lines}) >= processes, text
    assert any(line[2] == "fastmp" for line in lines), text
