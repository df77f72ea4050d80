"""Runs tests in the Python under test, and tells of each as it goes, to ``tests.cpython.side``.

Alone in that Python: copied into its site-packages as ``fastmp_cpython_inside`` and run by ``-m``,
as regrtest is, so that children made by spawn import a main module that does nothing.

    python -m fastmp_cpython_inside list MODULE...
    python -m fastmp_cpython_inside run EVENTS MODULE...  <ids, one a line, on stdin

``list`` prints the tests' ids as a JSON list.  ``run`` appends a JSON object a line to the file
EVENTS: {"start": id}, then {"end": id, "outcome": ..., "text": ...}; {"fixture": ...} when a
class's or a module's set-up failed or was skipped; at last {"done": ..., "altered": bool}.
"""

from __future__ import annotations

import faulthandler
import json
import sys
import traceback
import unittest
from collections.abc import Collection, Iterator, Sequence
from typing import Any, TextIO

PASSED, SKIPPED, FAILED = "passed", "skipped", "failed"


def tests_in(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """The single tests of a suite of suites, in order."""
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests_in(test)
        else:
            yield test


def load(modules: Sequence[str]) -> list[unittest.TestCase]:
    """The tests of the modules, as ``python -m unittest`` would find them."""
    loader = unittest.TestLoader()
    return list(tests_in(loader.loadTestsFromNames(modules)))


class Teller(unittest.TestResult):
    """Writes down what becomes of each test.

    Of what unittest says about one test the worst counts: a subtest that fails fails its test.
    """

    def __init__(self, file: TextIO):
        super().__init__()
        self._file = file
        self._outcome = ""
        self._text = ""

    def tell(self, **event: object) -> None:
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        self._outcome, self._text = "", ""
        self.tell(start=test.id())

    def stopTest(self, test: Any) -> None:
        super().stopTest(test)
        self.tell(end=test.id(), outcome=self._outcome or FAILED, text=self._text)

    def _note(self, test: Any, outcome: str, text: str = "") -> None:
        if not isinstance(test, unittest.TestCase):  # unittest's stand-in for a fixture
            self.tell(fixture=test.id(), outcome=outcome, text=text)
        elif self._outcome != FAILED:
            self._outcome, self._text = outcome, text

    def addSuccess(self, test: Any) -> None:
        self._note(test, PASSED)

    def addSkip(self, test: Any, reason: str) -> None:
        self._note(test, SKIPPED, reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        self._note(test, PASSED)

    def addUnexpectedSuccess(self, test: Any) -> None:
        self._note(test, FAILED, "passed, which was not expected")

    def addError(self, test: Any, err: Any) -> None:
        self._note(test, FAILED, "".join(traceback.format_exception(*err)))

    addFailure = addError

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            before = self._text if self._outcome == FAILED else ""
            description = "".join(traceback.format_exception(*err))
            self._outcome, self._text = FAILED, f"{before}{subtest.id()}\n{description}"


def run(modules: Sequence[str], wanted: Collection[str], events: str) -> None:
    """Run the tests whose ids are wanted, in the modules' order."""
    from test import support

    tests = [test for test in load(modules) if test.id() in wanted]
    with open(events, "a", encoding="utf-8") as file:
        teller = Teller(file)
        unittest.TestSuite(tests).run(teller)
        teller.tell(done=len(tests), altered=bool(support.environment_altered))


def main() -> None:
    faulthandler.enable()  # the watchdog's SIGABRT prints the stacks
    command, *rest = sys.argv[1:]
    if command == "list":
        print(json.dumps([test.id() for test in load(rest)]))
    else:
        run(rest[1:], frozenset(sys.stdin.read().split("\n")), rest[0])


if __name__ == "__main__":
    main()
