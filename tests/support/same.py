"""Runs one script with the standard library's multiprocessing and with fastmp, as `mp`.

A script prints what it sees; the fixture `same(script)` runs it with both, compares output and exit
code, and returns the output.
"""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

HEADER = """\
import os, signal, sys, threading, time
import {module} as mp

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def complaint(call, *args, **kwargs):
    try:
        return "no error: %r" % (call(*args, **kwargs),)
    except Exception as e:
        return "%s: %s" % (type(e).__name__, e)

"""


def run_script(path, module, body, method):
    """Runs the script with `mp` being the module; (exit code, output, errors)."""
    path.write_text(HEADER.format(module=module) + textwrap.dedent(body))
    done = subprocess.run(
        [sys.executable, str(path), method],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
    )
    return done.returncode, done.stdout, done.stderr


def without_numbers(text):
    """Pids and descriptors differ from run to run, and so do the lines of a library's frames."""
    text = re.sub(r'File "[^"]*/(multiprocessing|fastmp)/\w+.py", line \d+, in .*\n.*\n', "", text)
    text = re.sub(r"/pymp-\w+", "/pymp-NAME", text)
    return re.sub(r"\b(pid|parent)=\d+", r"\1=N", text)


@pytest.fixture
def same(tmp_path, start_method):
    """same(script): the output of the script, which is the same with the stdlib and fastmp."""

    def check(body, ordered=True):
        results = []
        for module in ("multiprocessing", "fastmp"):
            # One path for both, because tracebacks name it.
            code, out, errors = run_script(tmp_path / "script.py", module, body, start_method)
            lines = without_numbers(out).splitlines()
            lines = lines if ordered else sorted(lines)
            results.append((code, "\n".join(lines), without_numbers(errors)))
        assert results[1] == results[0]
        return results[1][1]

    return check
