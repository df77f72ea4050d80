"""The runner of CPython's own tests: it notices what it is there to notice.

It is run on tests of our own, in the same kind of environment; `tests.cpython` says what it is for.
"""

import json
import re
import sys
import threading
from dataclasses import replace
from datetime import date

import pytest

from tests.cpython import __main__ as runner
from tests.cpython import allowed, environment, report, suites, witness
from tests.cpython.allowed import ALLOWED, Allowed
from tests.cpython.compare import SuiteReport
from tests.cpython.side import SIDES, Limits, Outcome, Result, Stopped, SuiteRun, ids_of, modules_of
from tests.cpython.suites import Suite

VERSION = "{}.{}".format(*sys.version_info[:2])

SAMPLE = """
import multiprocessing, os, time, unittest

ON_FASTMP = multiprocessing.__name__ == "fastmp"

def only_once(name):
    path = f"{__file__}.{name}.{ON_FASTMP}"
    if os.path.exists(path):
        return False
    open(path, "w").close()
    return True

class Test(unittest.TestCase):
    def test_1_passes(self):
        pass
    def test_2_fails_on_fastmp(self):
        self.assertFalse(ON_FASTMP, "this is why")
    def test_3_fails_on_both(self):
        1 / 0
    @unittest.expectedFailure
    def test_4_fails_as_expected(self):
        1 / 0
    def test_5_skipped_on_fastmp(self):
        if ON_FASTMP:
            self.skipTest("for no reason")
    def test_6_fails_by_chance(self):
        self.assertFalse(only_once("chance"))
    def test_7_has_subtests(self):
        for i in range(3):
            with self.subTest(i=i):
                self.assertNotEqual(ON_FASTMP, i > 0)
    def test_8_has_a_child(self):
        process = multiprocessing.Process(target=print)
        process.start()
        process.join()
    @unittest.expectedFailure
    def test_9_passes_unexpectedly(self):
        pass

class TestSkipped(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise unittest.SkipTest("all of them")
    def test(self):
        pass

class TestBroken(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if ON_FASTMP:
            1 / 0
    def test(self):
        pass

class TestTornDown(unittest.TestCase):
    @classmethod
    def tearDownClass(cls):
        if ON_FASTMP:
            1 / 0
    def test_first(self):
        pass
    def test_last(self):
        pass
"""

CUT_SHORT = """
import multiprocessing, os, time, unittest

class Test(unittest.TestCase):
    def test_1_passes(self):
        pass
    def test_2_hangs(self):
        multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,)).start()
        time.sleep(600)
    def test_3_passes(self):
        pass
    def test_4_crashes(self):
        os._exit(3)
    def test_5_passes(self):
        pass
"""

PROCESSES = """
import multiprocessing, os, subprocess, sys, unittest

def start(*args, **variables):
    kept = {name: os.environ[name] for name in variables if variables[name] is True}
    subprocess.run([sys.executable, *args], env=kept, check=True)

class Test(unittest.TestCase):
    def test_of_its_own(self):
        process = multiprocessing.get_context("spawn").Process(target=print)
        process.start()
        process.join()
    def test_without_site(self):
        start("-E", "-S", "-c", "import multiprocessing")
    def test_with_the_stdlib(self):
        start("-c", "import multiprocessing as is_the_stdlib", FASTMP_CPYTHON_LOG=True)
    def test_unseen(self):
        start("-W", "ignore", "-c", "'nobody saw it'")
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An environment such as the runner's."""
    return environment.make(VERSION, tmp_path_factory.mktemp("cpython") / "env")


@pytest.fixture
def run(python, tmp_path):
    """Runs a module's tests on a side, or on both: gives a report."""

    def run_sides(name, text, limits=None, pattern="*"):
        python.offer(name, text)
        suite = Suite(name, (name,), ids=(pattern,))
        modules, _ = modules_of(python, suite)
        ids = ids_of(python, suite, modules)
        how = tmp_path, limits or Limits(), threading.Event()
        sides = [SuiteRun(python, suite, modules, ids, side, *how)() for side in SIDES]
        return SuiteReport(name, VERSION, python.release, *sides)

    return run_sides


def short(name):
    return name.split(".", 1)[1]


def outcomes(result):
    return {short(name): each.outcome for name, each in result.outcomes.items()}


PASSING = {
    "Test.test_1_passes": "passed",
    "Test.test_2_fails_on_fastmp": "passed",
    "Test.test_3_fails_on_both": "failed",
    "Test.test_4_fails_as_expected": "passed",
    "Test.test_5_skipped_on_fastmp": "passed",
    "Test.test_6_fails_by_chance": "passed on repetition",
    "Test.test_7_has_subtests": "failed",
    "Test.test_8_has_a_child": "passed",
    "Test.test_9_passes_unexpectedly": "failed",
    "TestSkipped.test": "skipped",
    "TestBroken.test": "passed",
    "TestTornDown.test_first": "passed",
    "TestTornDown.test_last": "passed",
}
WORSE = {
    "Test.test_2_fails_on_fastmp": "failed",
    "Test.test_5_skipped_on_fastmp": "skipped",
    "TestBroken.test": "failed",
    "TestTornDown.test_last": "failed",
}


@pytest.mark.watchdog(180)
def test_each_id_is_compared(run):
    made = run("fmp_sample", SAMPLE)
    assert outcomes(made.stdlib) == PASSING
    assert outcomes(made.fastmp) == {**PASSING, **WORSE}
    assert {short(each.test_id): each.on_fastmp for each in made.differences()} == WORSE
    complaints = made.complaints()
    assert len(complaints) == len(WORSE)
    assert "this is why" in complaints[0] and "for no reason" in complaints[1]
    text = made.fastmp.outcomes["fmp_sample.Test.test_7_has_subtests"].text
    assert "(i=0)" not in text and "(i=1)" in text and "(i=2)" in text
    assert made.fastmp.testimony.on_fastmp and not made.fastmp.testimony.on_stdlib

    again = SuiteReport.from_json(json.loads(json.dumps(made.as_json())))
    assert again == made


@pytest.mark.watchdog(180)
def test_what_hangs_or_crashes_has_failed_and_the_rest_runs(run):
    made = run("fmp_cut_short", CUT_SHORT, Limits(still=6))
    expected = ["passed", "failed", "passed", "failed", "passed"]
    assert list(outcomes(made.stdlib).values()) == expected
    assert list(outcomes(made.fastmp).values()) == expected
    texts = [each.text for each in made.fastmp.outcomes.values()]
    said = re.match(r"ended by the watchdog after (\d+) s", texts[1])
    assert int(said[1]) >= 6  # a machine that is busy may be late
    assert texts[3] == "the process left with exit code 3"


LEAVING = """
import unittest
from test import support

class Test(unittest.TestCase):
    def test_1_leaves_something(self):
        support.environment_altered = True
    def test_2_passes(self):
        pass
"""


@pytest.mark.parametrize("known", [False, True])
def test_what_an_allowed_failure_leaves_behind_is_not_the_others_doing(run, monkeypatch, known):
    if known:
        monkeypatch.setattr(allowed, "ALLOWED", [Allowed("*.test_1_*", "is known")])
    made = run("fmp_leaving", LEAVING)
    assert list(outcomes(made.fastmp).values()) == ["passed"] * 2
    assert made.fastmp.altered == made.stdlib.altered == (not known)


def test_a_run_that_is_told_to_stop_leaves_nothing(python, tmp_path):
    python.offer("fmp_stopped", CUT_SHORT)
    suite, stop = Suite("stopped", ("fmp_stopped",)), threading.Event()
    ids = ["fmp_stopped.Test.test_2_hangs"]
    timer = threading.Timer(2, stop.set)
    timer.start()
    with pytest.raises(Stopped):
        SuiteRun(python, suite, suite.modules, ids, "fastmp", tmp_path, Limits(), stop)()
    timer.join()


@pytest.mark.watchdog(180)
@pytest.mark.parametrize(
    "name, accusation",
    [
        ("of_its_own", None),
        ("without_site", None),
        ("with_the_stdlib", "had the stdlib as multiprocessing: pid "),
        ("unseen", "did not tell what its multiprocessing was: "),
    ],
)
def test_a_process_without_fastmp_is_found(run, name, accusation):
    made = run("fmp_processes", PROCESSES, pattern=f"*_{name}")
    assert list(outcomes(made.fastmp).values()) == ["passed"]
    complaints = made.complaints()
    assert len(complaints) == (accusation is not None)
    if accusation:
        assert complaints[0].startswith(accusation)
    assert made.fastmp.testimony.without_site == (name == "without_site")


def test_ids_are_chosen_by_pattern(python):
    python.offer("fmp_chosen", SAMPLE)
    suite = Suite("chosen", ("fmp_chosen", "fmp_absent"), ids=("*chance", "*Skipped*"))
    modules, _ = modules_of(python, suite)
    assert modules == ("fmp_chosen",)
    found = ids_of(python, suite, modules)
    assert found == ["fmp_chosen.Test.test_6_fails_by_chance", "fmp_chosen.TestSkipped.test"]


def test_a_stand_in_takes_the_place_of_what_the_build_left_out(python):
    suite = Suite("x", ("test.test_fmp_left_out",), stand_in=SAMPLE)
    modules, lender = modules_of(python, suite)
    assert (modules, lender) == (("test_fmp_left_out",), "")
    assert len(ids_of(python, suite, modules)) == len(PASSING)


def test_what_the_build_left_out_is_borrowed_from_another(python, monkeypatch):
    """From the Python that has it; here a package that all have, said to be missing."""
    monkeypatch.setattr(environment.Interpreter, "has_module", lambda self, name: False)
    suite = Suite("x", ("test.test_asyncio",), borrows=True)
    modules, lender = modules_of(python, suite)
    assert lender == VERSION and "test_asyncio.test_locks" in modules
    suite = Suite("x", ("test.test_bool",), borrows=True)
    assert modules_of(python, suite) == (("test_bool",), VERSION)
    suite = Suite("x", ("test.test_fmp_nowhere",), borrows=True)
    assert modules_of(python, suite) == ((), "")
    made = a_report({"a": ["passed"]}, {"a": ["passed"]}, lender="3.9")
    assert "| suite (of 3.9) |" in report.row(made)


def test_a_borrowed_module_that_cannot_be_loaded_is_left_out(python, monkeypatch, capsys):
    python.offer("fmp_old", "import unittest\n\nclass Test(unittest.TestCase):\n    test = print")
    python.offer("fmp_new", "raise TypeError")
    suite = Suite("x", ("test.x",), borrows=True)
    found = (("fmp_old", "fmp_new"), "3.14")
    monkeypatch.setattr(runner, "modules_of", lambda python, suite: found)
    (task,) = runner.prepare(python, [suite], "*")
    assert task.modules == ("fmp_old",) and task.ids == ["fmp_old.Test.test"]
    assert "fmp_new is of no use" in capsys.readouterr().out


#
# Without running anything
#

GOOD = witness.Testimony(3, 1, [], [], 0, 0)


def a_report(stdlib, fastmp, testimony=GOOD, **options):
    sides = [
        Result(side, {name: Outcome(*outcome) for name, outcome in those.items()}, **more)
        for side, those, more in [
            ("stdlib", stdlib, {}),
            ("fastmp", fastmp, {"testimony": testimony}),
        ]
    ]
    return SuiteReport("suite", "3.13", "3.13.0", *sides, **options)


RANKS = ["passed", "passed on repetition", "skipped", "failed"]


@pytest.mark.parametrize("theirs", RANKS)
@pytest.mark.parametrize("ours", RANKS)
def test_only_what_is_worse_is_a_difference(theirs, ours):
    made = a_report({"a": [theirs]}, {"a": [ours]})
    rank = [0, 0, 1, 2]
    worse = rank[RANKS.index(ours)] > rank[RANKS.index(theirs)]
    assert bool(made.differences()) == bool(made.complaints()) == worse


def test_an_allowed_difference_is_no_complaint():
    made = a_report({"a.b": ["passed"]}, {"a.b": ["failed", "text"]})
    reason = "is known"
    assert made.complaints([Allowed("a.*", reason)]) == []
    assert [each.allowed for each in made.differences([Allowed("a.*", reason)])] == [reason]
    for other in Allowed("a.c", reason), Allowed("a.*", reason, unless="text"):
        assert len(made.complaints([other])) == 1


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({}, None),
        ({"on_stdlib": ["pid 1"]}, "had the stdlib as multiprocessing: pid 1"),
        ({"unseen": ["python x"]}, "did not tell what its multiprocessing was: python x"),
        ({"processes": 0}, "no process told what its multiprocessing was"),
        ({"on_fastmp": 0}, "no process had fastmp as multiprocessing"),
        ({"without_site": 2, "cut_short": 3}, None),
    ],
)
def test_what_the_witness_says_counts(change, complaint):
    made = a_report({"a": ["passed"]}, {"a": ["passed"]}, replace(GOOD, **change))
    assert made.complaints() == ([complaint] if complaint else [])


def test_what_need_not_import_it_need_not():
    made = a_report({"a": ["passed"]}, {"a": ["passed"]}, replace(GOOD, on_fastmp=0), imports=False)
    assert made.complaints() == []


def test_what_is_left_behind_counts():
    made = a_report({"a": ["passed"]}, {"a": ["passed"]})
    made.fastmp.altered = True
    assert len(made.complaints()) == 1
    made.stdlib.altered = True
    assert made.complaints() == []


def test_the_document_tells_of_what_is_allowed():
    document = (environment.ROOT / "docs" / "conformance.md").read_text()
    assert all(f"`{each.ids.removeprefix('*.')}`" in document for each in ALLOWED)
    assert report.BEGIN in document and report.END in document


def test_suites_are_chosen():
    everything = suites.choose([], [])
    assert len(everything) == len({suite.name for suite in everything}) > 10
    fork, *others = suites.choose(["fork", "other"], [])
    assert fork.name == "multiprocessing_fork" and all(not suite.method for suite in others)
    assert [suite.name for suite in suites.choose([], ["fcntl"])] == ["fcntl"]
    with pytest.raises(ValueError, match="no such suite: x"):
        suites.choose([], ["x"])


def test_all_parts_have_their_day():
    days = [date.fromordinal(740_000 + i) for i in range(15)]
    parts = {suites.part_of(day) for day in days}
    assert len(parts) == len(days) and ("3.13", "fork") not in parts
    assert {version for version, _ in parts} == set(suites.PYTHONS)


def test_the_table_keeps_what_was_not_run_again(tmp_path):
    document = tmp_path / "conformance.md"
    older = "| 3.12.1 | suite | 9 | 9 / 9 | 0 / 0 | 0 / 0 | 0 | 7 |\n"
    replaced = "| 3.13.0 | suite | 5 | 5 / 5 | 0 / 0 | 0 / 0 | 0 | 7 |\n"
    document.write_text(f"# T\n\n{report.BEGIN}\n{older}{replaced}{report.END}\nend\n")
    made = a_report({"a": ["passed"], "b": ["skipped"]}, {"a": ["failed"], "b": ["skipped"]})
    report.write_table(document, [made], ["suite"])
    new = "| 3.13.0 | suite | 2 | 1 / 0 | 1 / 1 | 0 / 1 | 1 | 3 |\n"
    assert report.row(made) == new
    assert document.read_text() == (
        f"# T\n\n{report.BEGIN}\n{report.HEAD}{new}{older}{report.END}\nend\n"
    )
    report.write_table(document, [], ["suite"])
    assert new in document.read_text()


def test_what_passed_on_repetition_is_said():
    made = a_report({"a": ["passed"]}, {"a": ["passed on repetition"]})
    assert "| 1 / 1 (on repetition 0 / 1) |" in report.row(made)
