"""Lets a test run an unmodified program under a start method of its choice, and quickly.

Python imports this module in every process whose PYTHONPATH names its folder, thus in each child of
the program too. Nothing happens without these variables:

* ``FASTMP_TEST_LINES``: stdout writes each line at once, as on a terminal: else what a worker
  of a pool had printed is lost or not as the pool's end happens to find it, under the stdlib too;
* ``FASTMP_TEST_SLEEP``: ``time.sleep`` sleeps that fraction of what it is asked for;
* ``FASTMP_TEST_SCRIPT`` and ``FASTMP_TEST_METHOD``: just before the code of that file runs, and
  unless a start method is fixed by then (as in a spawned child), that one is set.

The last one is an audit hook and not an import of ``multiprocessing`` here, because at this point
``python -m fastmp`` has not yet had its say about what ``multiprocessing`` is.
"""

import os
import sys
import time


def shorten_sleep(fraction):
    real = time.sleep

    def sleep(seconds, /):
        return real(seconds * fraction)

    time.sleep = sleep


def fix_method(script, method):
    armed = True

    def hook(event, args):
        nonlocal armed
        if armed and event == "exec" and getattr(args[0], "co_filename", None) == script:
            armed = False
            import multiprocessing

            if multiprocessing.get_start_method(allow_none=True) is None:
                multiprocessing.set_start_method(method)

    sys.addaudithook(hook)


if "FASTMP_TEST_LINES" in os.environ:
    sys.stdout.reconfigure(line_buffering=True)
if "FASTMP_TEST_SLEEP" in os.environ:
    shorten_sleep(float(os.environ["FASTMP_TEST_SLEEP"]))
if "FASTMP_TEST_METHOD" in os.environ:
    fix_method(os.environ["FASTMP_TEST_SCRIPT"], os.environ["FASTMP_TEST_METHOD"])
