"""Running programs with this Python, from outside the checkout, with fastmp importable."""

import os
import subprocess
import sys
from typing import NamedTuple

import fastmp

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(fastmp.__file__)))


class Result(NamedTuple):
    """How a program ended, and what it wrote."""

    code: int
    out: str
    err: str


def run(*args, cwd, stdin="", python=sys.executable, timeout=60, **environ):
    """Run *python* with *args* in *cwd*; *environ* is added to the environment, None removes."""
    env = {**os.environ, "PYTHONPATH": ROOT, **environ}
    done = subprocess.run(
        [python, *map(str, args)],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={name: value for name, value in env.items() if value is not None},
    )
    return Result(done.returncode, done.stdout, done.stderr)
