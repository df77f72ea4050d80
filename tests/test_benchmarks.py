"""The benchmarks run to their end on both packages, and tell when something is wrong."""

import json
import os
import time

import pytest

from benchmarks import __main__ as command
from benchmarks import measure, report
from tests.support.documents import ROOT
from tests.support.programs import environment, run

PLAN = measure.Plan(rounds=3, sample_seconds=0.001, row_seconds=5.0, method="fork", quick=True)


def make_row(opened, **options):
    before = len(measure.ROWS)
    measure.row("lock", "under test", **options)(opened)
    made = measure.ROWS.pop()
    assert len(measure.ROWS) == before
    return made


@pytest.mark.watchdog(150)
def test_quick_run(tmp_path):
    path = tmp_path / "results.json"
    env = environment()
    env["PYTHONPATH"] += os.pathsep + str(ROOT)
    outcome = run(["-m", "benchmarks", "--quick", "--json", path], env, timeout=120)
    assert outcome.code == 0, outcome.out + outcome.err
    assert outcome.err == ""
    document = json.loads(path.read_text())
    assert document["quick"] and document["rounds"] == 3
    assert {row["suite"] for row in document["rows"]} == set(command.SUITES)
    assert len(document["rows"]) == len(measure.ROWS)
    for row in document["rows"]:
        assert row["error"] is None
        assert row["operations"] >= 1
        assert len(row["stdlib"]) == len(row["fastmp"]) == 3
        assert min(row["stdlib"] + row["fastmp"]) > 0
        assert row["name"] in outcome.out
    assert f"\n{len(measure.ROWS)} rows, geometric mean" in outcome.out


def test_options(capsys):
    assert command.main(["--list", "--suite", "pipe", "--suite", "lock"]) == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert listed == {"lock", "pipe"}
    for wrong in (["--suite", "nothing"], ["--rounds", "1"], ["--method", "thread"]):
        with pytest.raises(SystemExit) as ended:
            command.main(wrong)
        assert ended.value.code == 2


def test_sides_take_turns_on_their_own_package():
    """Both sides are open at once, are sampled in alternating order, and are what they say."""
    seen = []

    def opened(side):
        module = type(side.context()).__module__.split(".")[0]
        yield lambda n: seen.append((side.name, module)) or 0.25 * n

    result = measure.measure(make_row(opened, count=4), PLAN)
    assert result.error is None
    assert (result.stdlib, result.fastmp) == ([0.25] * 3, [0.25] * 3)
    a, b = ("stdlib", "multiprocessing"), ("fastmp", "fastmp")
    assert sorted(seen[:2]) == [b, a]  # the first samples only warm up
    assert seen[2:] == [a, b, b, a, a, b]


def test_calibration():
    counts = []

    def sample(n):
        counts.append(n)
        return n * 1e-6

    assert measure.calibrate(sample, 0.01) == 10_000
    assert counts[0] == 1 and max(counts) <= 20_000
    assert measure.calibrate(lambda n: 60.0, 0.01) == 1


def test_wrong_answer_fails_the_run(monkeypatch, capsys):
    def opened(side):
        def sample(n):
            measure.expect(n if side.is_fastmp else n + 1, n)
            return 1.0

        yield sample

    monkeypatch.setattr(measure, "ROWS", measure.ROWS[:0])
    monkeypatch.setattr(command, "ROWS", [make_row(opened, count=1)])
    assert command.main(["--quick"]) == 1
    out = capsys.readouterr().out
    assert "under test" in out and "FAILED, WrongAnswer: got 2, expected 1" in out
    assert "0 rows, 1 FAILED" in out


def test_row_that_hangs_is_ended():
    def opened(side):
        process = side.context().Process(target=time.sleep, args=(60,))
        process.start()

        def sample(n):
            process.join()
            return 1.0

        yield sample

    plan = measure.Plan(3, 0.001, 0.5, "fork", True)
    start = time.monotonic()
    result = measure.measure(make_row(opened, count=1), plan)
    assert result.error == "RowTimeout: not done after 0.5 s"
    assert time.monotonic() - start < 30


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
    assert report.duration(seconds) == text
