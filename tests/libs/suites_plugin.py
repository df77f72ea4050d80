"""A pytest plugin for `python -m tests.libs.own_suites`: writes each test's outcome as it is known.

Given to a library's own test run by `-p`; SUITES_OUTCOMES names the file. A line is
`<outcome> <id>`, so what a killed run had found out is not lost. Knows nothing of fastmp.
"""

import os

_found = {}


def pytest_runtest_logreport(report):
    if type(report).__name__ != "TestReport":
        return  # a subtest's: its test fails with it
    if hasattr(report, "wasxfail"):
        outcome = "xpassed" if report.passed else "xfailed"
    else:
        outcome = report.outcome
    if report.when == "setup":
        _found.pop(report.nodeid, None)
    if report.when == "call" or outcome != "passed":
        _found.setdefault(report.nodeid, outcome)
        if outcome == "failed":
            _found[report.nodeid] = outcome  # whatever it was before its teardown
    if report.when == "teardown" and report.nodeid in _found:
        _write(_found[report.nodeid], report.nodeid)


def pytest_collectreport(report):
    if report.failed:
        _write("failed", f"{report.nodeid} (collection)")


def _write(outcome, nodeid):
    with open(os.environ["SUITES_OUTCOMES"], "a") as file:
        file.write(f"{outcome} {nodeid}\n")
