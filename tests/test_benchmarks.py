"""The benchmarks run to their end on every side there is, and tell when something is wrong."""

import contextlib
import importlib.util
import math
import os
import signal
import subprocess
import sys
import time

import pyperf
import pytest

from benchmarks import __main__ as command
from benchmarks import (
    documents,
    figures,
    goals,
    limits,
    measure,
    report,
    results,
    rows,
    runner,
    sides,
    suites,
)
from tests.support.documents import ROOT
from tests.support.programs import environment, run

PLAN = measure.Plan(rounds=3, sample_seconds=0.001, row_seconds=5.0, method="fork", quick=True)
PAIR = [sides.FASTMP, sides.STDLIB]


def make_row(opened, name="under test", **options):
    """A row of that way, registered for as long as it takes to make it."""
    rows.row("lock", name, **options)(opened)
    return rows.ROWS.pop(name)


def from_a_file(samples):
    """A way whose samples are those of a list, by side; what is asked for is in `samples.asked`."""

    def opened(side):
        left = list(samples[side.name])
        yield lambda n: left.pop(0) * n

    return opened


def benchmarks(*arguments, timeout):
    env = environment()
    env["PYTHONPATH"] += os.pathsep + str(ROOT)
    return run(["-m", "benchmarks", *arguments], env, timeout=timeout)


@pytest.mark.watchdog(200)
def test_quick_run(tmp_path):
    """All the short suites, with the limits, against the goals, into pyperf's file."""
    path = tmp_path / "results.json"
    outcome = benchmarks("--quick", "--goals", "--json", path, timeout=170)
    assert outcome.code == 0, outcome.out + outcome.err
    assert outcome.err == ""
    expected = command.rows_of(command.parse_arguments([]))
    assert {row.suite for row in expected} == set(suites.SHORT)
    found = results.read([path])
    assert [result.row.name for result in found] == [row.name for row in expected]
    for result in found:
        limits_of_it = {name for name in result.row.ways if name.startswith("limit: ")}
        assert not result.missing
        assert set(result.sides) == {"stdlib", "fastmp"} | limits_of_it
        for measured in result.sides.values():
            assert measured.loops >= 1 and len(measured.values) == 3
        assert result.row.name in outcome.out
    assert f"\n{len(expected)} rows, geometric mean" in outcome.out
    assert "not measured" in outcome.out and "\ngoals: " in outcome.out


@pytest.mark.watchdog(200)
@pytest.mark.parametrize("suite", [name for name in suites.NAMES if name not in suites.SHORT])
def test_quick_run_of_a_long_suite(suite):
    outcome = benchmarks("--quick", "--rounds", "2", "--suite", suite, timeout=170)
    assert (outcome.code, outcome.err) == (0, ""), outcome.out + outcome.err
    assert outcome.out.count("\n") > sum(row.suite == suite for row in rows.ROWS.values())


def test_pyperf_reads_the_files(tmp_path):
    """One file of all sides, or one for each, whose benchmarks compare_to can then pair."""
    row = make_row(from_a_file({"stdlib": [4.0] * 9, "fastmp": [2.0, 3.0, 1.0, 2.0]}), count=2)
    rows.ROWS[row.name] = row
    try:
        measured = [measure.measure(row, PAIR, PLAN)]
        measured[0].about = command.conditions(PLAN)
        suite = results.as_suite(measured)
        results.write(str(tmp_path / "all.json"), suite)
        results.write(str(tmp_path / "{side}.json"), suite)
        (read,) = results.read([tmp_path / "all.json"])
    finally:
        del rows.ROWS[row.name]
    assert read.sides["fastmp"].values == [3.0, 1.0, 2.0]
    assert read.ratios("stdlib") == measured[0].ratios("stdlib")
    assert read.about == measured[0].about
    files = ["stdlib.json", "fastmp.json"]
    assert [pyperf.Benchmark.load(str(tmp_path / name)).median() for name in files] == [4.0, 2.0]
    for arguments in (["stats", "all.json"], ["compare_to", *files]):
        outcome = subprocess.run(
            [sys.executable, "-m", "pyperf", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert outcome.returncode == 0, outcome.stderr
    assert "2.00x faster" in outcome.stdout


def test_options(capsys):
    assert command.main(["--list", "--suite", "pipe", "--suite", "lock"]) == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert listed == {"lock", "pipe"}
    for wrong in (
        ["--suite", "nothing"],
        ["--rounds", "1"],
        ["--method", "thread"],
        ["--peers", "nobody"],
        ["--from", "x.json", "--json", "y.json"],
    ):
        with pytest.raises(SystemExit) as ended:
            command.main(wrong)
        assert ended.value.code == 2


def test_what_is_missing_is_asked_for(tmp_path):
    """Without pyperf the command says what to do, and does nothing."""
    script = tmp_path / "script.py"
    script.write_text(
        "import importlib.util\n"
        "importlib.util.find_spec = lambda name: None\n"
        "from benchmarks.__main__ import main\n"
        "raise SystemExit(main(['--quick']))\n"
    )
    env = environment()
    env["PYTHONPATH"] += os.pathsep + str(ROOT)
    outcome = run([script], env)
    assert outcome.code == 2 and outcome.out == ""
    assert "needs pyperf" in outcome.err and "`make bench`" in outcome.err


#
# The turns
#


def test_sides_take_turns_on_their_own_package(tmp_path):
    """Both sides are open at once, are sampled in alternating order, and are what they say."""
    log = tmp_path / "log"

    def opened(side):
        module = type(side.context()).__module__.split(".")[0]

        def sample(n):
            with open(log, "a") as file:
                file.write(f"{side.name} is {module}, {os.getpid()}\n")
            return 0.25 * n

        yield sample

    result = measure.measure(make_row(opened, count=4), PAIR, PLAN)
    assert not result.missing
    assert [result.sides[name].values for name in ("stdlib", "fastmp")] == [[0.25] * 3] * 2
    lines = [line.split(", ") for line in log.read_text().splitlines()]
    a, b = "fastmp is fastmp", "stdlib is multiprocessing"
    assert [said for said, _ in lines] == [a, b, a, b, b, a, a, b]  # the first two only warm up
    assert len({pid for _, pid in lines}) == 2


def test_calibration():
    counts = []

    def sample(n):
        counts.append(n)
        return n * 1e-6

    assert measure.calibrate(sample, 0.01) == 10_000
    assert counts[0] == 1 and max(counts) <= 20_000
    assert measure.calibrate(lambda n: 60.0, 0.01) == 1

    once = iter([0.05])
    assert measure.calibrate(lambda n: next(once, n * 1e-5), 0.01) == 1000


def test_slow_sides_are_asked_for_fewer_rounds():
    def opened(side):
        yield lambda n: 0.5 if side.is_fastmp else 10.0

    row = make_row(opened, count=1)
    for allowed, rounds in ((45.0, 4), (11.0, measure.LEAST_ROUNDS), (9.0, 1)):
        plan = measure.Plan(9, 0.001, 5.0, "fork", True, side_seconds=allowed)
        result = measure.measure(row, PAIR, plan)
        assert [len(result.sides[name].values) for name in ("fastmp", "stdlib")] == [9, rounds]
        assert result.ratios("stdlib") == [20.0] * rounds


def test_a_side_that_fails_is_out_and_the_others_go_on():
    def opened(side):
        def sample(n):
            if side.name == "billiard":
                rows.expect(n + 1, n)
            if side.name == "pebble":
                os._exit(1)
            return 1.0

        if side.name == "mpire":
            raise rows.Unable("it has no such thing")
        yield sample

    row = make_row(opened, count=1)
    row.ways.update(dict.fromkeys(["mpire", "pebble", "billiard"], row.ways[""]))
    installed = [sides.Side(name, sides.PEER, "json") for name in ("billiard", "pebble", "mpire")]
    absent = sides.Side("ray", sides.PACKAGE, "no_such_module")
    result = measure.measure(row, [*PAIR, *installed, absent], PLAN)
    assert set(result.sides) == {"fastmp", "stdlib"} and result.error is None
    assert result.missing == {
        "billiard": "WrongAnswer: got 2, expected 1",
        "pebble": "its process died",
        "mpire": "cannot: it has no such thing",
        "ray": "not installed",
    }
    printed = report.line(result)
    for name, reason in result.missing.items():
        assert f"    {name:54} {reason}" in printed.splitlines()


def test_what_a_side_finds_wrong_when_it_leaves_counts():
    def opened(side):
        yield lambda n: 1.0
        rows.expect(side.name, "stdlib")

    result = measure.measure(make_row(opened, count=1), PAIR, PLAN)
    assert result.error == "fastmp: WrongAnswer: got 'fastmp', expected 'stdlib'"
    assert set(result.sides) == {"stdlib"}


def test_wrong_answer_fails_the_run(monkeypatch, capsys):
    def opened(side):
        def sample(n):
            rows.expect(n if side.is_fastmp else n + 1, n)
            return 1.0

        yield sample

    row = make_row(opened, count=1)
    monkeypatch.setattr(command, "ROWS", {row.name: row})
    handler = signal.getsignal(signal.SIGTERM)
    assert command.main(["--quick"]) == 1
    assert signal.getsignal(signal.SIGTERM) is handler
    out = capsys.readouterr().out
    assert "under test" in out and "FAILED, stdlib: WrongAnswer: got 2, expected 1" in out
    assert "0 rows, 1 FAILED" in out


def test_a_side_that_hangs_is_ended_with_its_children(tmp_path):
    pids = tmp_path / "pids"

    def opened(side):
        process = side.context().Process(target=time.sleep, args=(60,))
        process.start()
        with open(pids, "a") as file:
            file.write(f"{os.getpid()} {process.pid}\n")

        def sample(n):
            process.join()
            return 1.0

        yield sample

    plan = measure.Plan(3, 0.001, 0.5, "fork", True)
    start = time.monotonic()
    result = measure.measure(make_row(opened, count=1), PAIR, plan)
    assert result.missing == dict.fromkeys(["fastmp", "stdlib"], "not done after 0.5 s")
    assert time.monotonic() - start < 30
    deadline = time.monotonic() + 10
    while left := [pid for pid in pids.read_text().split() if is_running(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


def is_running(pid):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return state_of(pid) != "Z"
    return False


def state_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def test_a_restless_side_stands_still_while_others_have_their_turn():
    def opened(side):
        yield lambda n: 1.0

    row = make_row(opened, count=1)
    side = sides.Side("stdlib", sides.PACKAGE, "multiprocessing", restless=True)
    at_it = runner.Runner(row.ways[""], side)
    try:
        wait_for_state(at_it._pid, "T")
        assert at_it.sample(5, 10.0).count == 5
        wait_for_state(at_it._pid, "T")
    finally:
        at_it.close()


def wait_for_state(pid, state):
    deadline = time.monotonic() + 10
    while state_of(pid) != state:
        assert time.monotonic() < deadline
        time.sleep(0.01)


#
# Limits, goals, documents
#


def test_limits_refuse_what_makes_no_sense():
    limits.build()
    library = limits.library()
    assert library.Empty().acquire(True, timeout=3) is True and library.Empty().release() is None
    for name in ("cas_pairs", "line_round_trips", "pipe_round_trips", "forks", "ring_messages"):
        with pytest.raises(ValueError, match="at least once"):
            getattr(library, name)(0)
    for seconds in (library.cas_pairs(10), library.copies(b"x" * 5000, 3, True), library.forks(1)):
        assert 0 < seconds < 10


def test_goals_are_about_rows_and_sides_that_there_are():
    for goal in goals.GOALS:
        row = rows.ROWS[goal.row]
        for side in [name for name, _ in goal.within] + list(goal.ahead_of):
            package = sides.PEERS.get(side)
            assert side in row.ways or package.is_package, (goal.row, side)


def result_of(values, row="Lock: with"):
    measured = {
        name: measure.Measured(kind, 1, None, list(of)) for name, (kind, of) in values.items()
    }
    return measure.Result(rows.ROWS[row], measured)


@pytest.mark.parametrize("fastmp, word", [(1.0, True), (3.0, False)])
def test_goals_are_met_or_not(fastmp, word):
    result = result_of(
        {
            "stdlib": (sides.PACKAGE, [10.0] * 3),
            "fastmp": (sides.PACKAGE, [fastmp] * 3),
            "limit: x": (sides.LIMIT, [1.0] * 3),
            "ray": (sides.PEER, [2.0] * 3),
        }
    )
    goal = goals.Goal(
        "Lock: with", 5, within=(("limit: x", 1.5),), ahead_of=("ray", "loky"), at_most=2.0
    )
    checks = list(goal.checks(result))
    assert [check.is_met for check in checks if check.figure is not None] == [word] * 4
    assert [check.what for check in checks if check.is_met is None] == ["ahead of loky"]


def test_a_goal_says_what_the_least_that_there_is_to_do_would_have_got(monkeypatch):
    monkeypatch.setattr(goals, "GOALS", [goals.Goal("Lock: with", 5, least="limit: x")])
    runs = [
        [
            result_of(
                {
                    "stdlib": (sides.PACKAGE, [10.0]),
                    "fastmp": (sides.PACKAGE, [fastmp]),
                    "limit: x": (sides.LIMIT, [limit]),
                }
            )
        ]
        for fastmp, limit in ((4.0, 2.5), (1.0, 0.5), (5.0, 4.0))
    ]
    assert "| 2.50 | 10.00 | 2.00 | **met in 1 of 3**; x alone: 4.00, 2.50 |" in documents.goals(
        runs
    )
    assert "NOT MET; x alone: 4.00" in report.goals(runs[0])
    assert "alone" not in report.goals(runs[1])


def test_a_limit_that_was_kept_from_running_limits_nothing():
    for limit, expected in ((1.9, ["0.53"]), (2.1, [None])):
        result = result_of({"fastmp": (sides.PACKAGE, [1.0]), "limit: x": (sides.LIMIT, [limit])})
        goal = goals.Goal("Lock: with", within=(("limit: x", 2),))
        assert [check.figure for check in goal.checks(result)] == expected


def test_a_row_that_loses_says_so():
    result = result_of(
        {
            "stdlib": (sides.PACKAGE, [1.0] * 3),
            "fastmp": (sides.PACKAGE, [2.0] * 3),
            "ray": (sides.PEER, [1.5] * 3),
            "limit: x": (sides.LIMIT, [1.0] * 3),
        }
    )
    first, ray, limit = report.line(result).splitlines()
    assert first.endswith("0.50  (0.50 to 0.50)  slower")
    assert ray.endswith("0.75 times fastmp's  fastmp slower")
    assert limit.endswith("fastmp takes 2.00 of it")
    assert "worse in 1, behind a peer in 1" in report.summary([result])
    assert "**0.50 (0.50-0.50)**" in documents.tables([result])
    assert "| **ray 0.75** | x 2.00 |" in documents.tables([result])


@pytest.mark.parametrize(
    "seconds, word",
    [
        ((1.0, 1.0, 1.0), "met"),
        ((9.0, 9.0, 9.0), "**not met**"),
        ((1.0, 9.0, 1.0), "**met in 2 of 3**"),
        ((1.0, None, 1.0), "**met in 2 of 3**"),
        ((9.0, None, None), "**not met**"),
    ],
)
def test_a_goal_is_met_when_each_run_met_it(seconds, word):
    runs = [
        [
            result_of(
                {"stdlib": (sides.PACKAGE, [10.0] * 3), "fastmp": (sides.PACKAGE, [fastmp] * 3)}
            )
        ]
        if fastmp
        else []
        for fastmp in seconds
    ]
    figures = {1.0: "10.00", 9.0: "1.11", None: ""}
    cells = " | ".join(figures[fastmp] for fastmp in seconds)
    table = documents.goals(runs)
    assert table.startswith("| Work | goal | run 1 | run 2 | run 3 |  |\n")
    assert f"| Lock: with | >= 5x the stdlib | {cells} | {word} |" in table


def test_documents_have_a_place_for_each_table():
    text = documents.DOCUMENT.read_text()
    for name in ("conditions", "tables", "sleeps", "growth", "goals", "missing"):
        renewed = documents.between(text, name, "new\n")
        assert documents.between(renewed, name, "new") == renewed != text
    documents.between(documents.README.read_text(), "table", "new")
    with pytest.raises(ValueError, match="no place for 'nothing'"):
        documents.between(text, "nothing", "new")


def test_charts_are_drawn(tmp_path):
    """From a file, by a process of its own: matplotlib keeps its fonts open."""
    if importlib.util.find_spec("matplotlib") is None:
        pytest.skip("matplotlib is installed for the newest Python alone")
    pair = {"stdlib": (sides.PACKAGE, [2.0] * 3), "fastmp": (sides.PACKAGE, [1.0] * 3)}
    others = {"ray": (sides.PEER, [9.0] * 3), "limit: x": (sides.LIMIT, [0.5] * 3)}
    result = result_of({**pair, **others})
    point = result_of(pair, "Growth: Queue, 4 producers")
    results.write(str(tmp_path / "results.json"), results.as_suite([result, point]))
    chart, curves = tmp_path / "chart.svg", tmp_path / "curves.svg"
    outcome = benchmarks(
        "--from", tmp_path / "results.json", "--plot", chart, "--curves", curves, timeout=50
    )
    assert (outcome.code, outcome.err) == (0, "")
    drawn = chart.read_text()
    for text in ("Lock: with", "standard library", "ray", "limits of the machine"):
        assert text in drawn
    assert "Growth" not in drawn
    assert "so many producers to one consumer" in curves.read_text()


@pytest.mark.parametrize(
    "seconds, text",
    [
        (1.234e-8, "12.3 ns"),
        (9.996e-7, "1 us"),
        (0.0305, "30.5 ms"),
        (2.0, "2 s"),
        (999.4e-9, "999 ns"),
    ],
)
def test_duration(seconds, text):
    assert figures.duration(seconds) == text


def test_size():
    assert [figures.size(n) for n in (0, 100, 4096, 5 << 20, 3 << 30)] == [
        "0 B", "100 B", "4 KiB", "5 MiB", "3 GiB",
    ]  # fmt: skip


def test_a_single_sample_has_no_spread():
    assert report.with_spread([2e-3], "second") == "2 ms (once)"
    assert report.with_spread([1e-3, 2e-3, 3e-3], "second") == "2 ms ( 25%)"


def test_quartiles_of_few():
    assert measure.quartiles([2.0]) == [2.0] * 3
    assert math.isclose(measure.quartiles([1.0, 2.0, 4.0])[1], 2.0)
