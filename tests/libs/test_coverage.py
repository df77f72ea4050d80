"""coverage measures children (it patches BaseProcess._bootstrap), and pytest-cov with it."""

import json

import pytest

from tests.support import programs

from . import program

program.needs("coverage", "pytest_cov")

WORK = """\
def in_the_child(queue, n):
    if n > 5:
        queue.put("many")
    else:
        queue.put("few")


def in_the_pool(n):
    return n + 1


def never():
    return 1
"""

MAIN = """\
import multiprocessing, sys
import work

if __name__ == "__main__":
    assert multiprocessing.__name__ == "fastmp"
    multiprocessing.set_start_method(sys.argv[1])
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=work.in_the_child, args=(queue, 9))
    process.start()
    assert queue.get() == "many"
    process.join()
    pool = multiprocessing.Pool(1)
    assert pool.map(work.in_the_pool, range(3)) == [1, 2, 3]
    pool.close()
    pool.join()
"""

TEST = """\
import multiprocessing
import work

def test_it():
    assert multiprocessing.__name__ == "fastmp"
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=work.in_the_child, args=(queue, 9))
    process.start()
    assert queue.get() == "many"
    process.join()
    with multiprocessing.Pool(1) as pool:
        assert pool.map(work.in_the_pool, range(3)) == [1, 2, 3]
        pool.close()
        pool.join()
"""

CONFIG = "[run]\nconcurrency = multiprocessing\nparallel = true\nsigterm = true\n"


@pytest.fixture
def python(tmp_path, monkeypatch):
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "test_it.py").write_text(TEST)
    (tmp_path / ".coveragerc").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "log"

    def run(*arguments):
        env = programs.environment(FASTMP_INSTALL="1", FASTMP_LOG=str(log))
        outcome = programs.run(arguments, env)
        assert outcome.code == 0, f"{outcome.out}\n{outcome.err}"
        return outcome.out

    yield run
    program.check_log(log.read_text(), 3)


def lines_of(report):
    """(lines that ran, lines that did not) of work.py."""
    with open(report) as file:
        (work,) = [v for k, v in json.load(file)["files"].items() if k.endswith("work.py")]
    return work["executed_lines"], work["missing_lines"]


RAN = [1, 2, 3, 8, 9, 12]
NOT = [5, 13]


def test_coverage_run(python, start_method):
    python("-m", "coverage", "run", "main.py", start_method)
    python("-m", "coverage", "combine", "-q")
    python("-m", "coverage", "json", "-q", "-o", "report.json")
    assert lines_of("report.json") == (RAN, NOT)


def test_pytest_cov(python):
    out = python(
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--cov=work",
        "--cov-report=json:report.json",
        "--cov-config=.coveragerc",
        "test_it.py",
    )
    assert "1 passed" in out
    assert lines_of("report.json") == (RAN, NOT)
