"""Process: start and join, for each start method, in a program of its own."""

import os
import subprocess
import sys

from .measure import row

PROGRAM = os.path.join(os.path.dirname(__file__), "program.py")


def _starting(method):
    def opened(side):
        package = "fastmp" if side.is_fastmp else "multiprocessing"
        command = [sys.executable, PROGRAM, package, method]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, **pipes) as program:

            def sample(n):
                print(n, file=program.stdin, flush=True)
                return float(program.stdout.readline())

            yield sample
            program.stdin.close()

    return opened


for _method in ("fork", "forkserver", "spawn"):
    row("process", f"Process: start, join ({_method})")(_starting(_method))
