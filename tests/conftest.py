"""Fixtures for every test, and around every test the watchdog and the leak census.

* `start_method`: "fork", "spawn", "forkserver" in turn; `ctx`: fastmp's context for it.
* `same`: runs a script with the standard library and with fastmp, see tests/support/same.py.
* `@pytest.mark.watchdog(seconds)`: how long the test may take (default 60).
* `@pytest.mark.no_census(reason)`: the test leaves something on purpose, and says why.

See tests/support/watchdog.py and census.py for what they do and why.
"""

import os
import shutil
import signal
import sys
import tempfile

import pytest

from tests.support import START_METHODS, census, procs, sanitizer
from tests.support.same import same  # noqa: F401
from tests.support.watchdog import Watchdog

watchdog_key = pytest.StashKey[Watchdog]()
directory_key = pytest.StashKey[str]()
before_key = pytest.StashKey[census.Snapshot]()
failed_key = pytest.StashKey[bool]()


@pytest.fixture(params=START_METHODS)
def start_method(request):
    """Each start method in turn."""
    return request.param


@pytest.fixture
def ctx(start_method):
    """fastmp's context for each start method in turn."""
    import fastmp

    return fastmp.get_context(start_method)


@pytest.fixture(autouse=True)
def census_before(request):
    """Function-scoped and first: what wider fixtures hold is there before, and stays."""
    default = _default_context()
    method = default and default._actual_context
    request.node.stash[before_key] = census.take()
    yield
    # A start method that the test has set is not the next test's.
    if default is None:
        default = _default_context()
    if default is not None:
        default._actual_context = method


def _default_context():
    module = sys.modules.get("multiprocessing.context")
    return module and module._default_context


def pytest_configure(config):
    worker = getattr(config, "workerinput", None)
    # ^C must reach a terminal's foreground run; xdist ends its workers itself.
    if worker is not None or not os.isatty(0):
        procs.lead_a_session()
    # A job in the background of a shell inherits these ignored, and children would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    os.environ["PYTHONFAULTHANDLER"] = "1"
    census.mark_semaphores()
    if os.environ.get("FASTMP_SANITIZE"):
        sanitizer.fork_without_ending_threads()
    # Should a test drive the machine out of memory, the kernel kills it before anything else.
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    if worker is None:
        config.stash[directory_key] = tempfile.mkdtemp(prefix="fastmp-tests-")
    else:
        config.stash[directory_key] = worker["fastmp_directory"]
    if worker is not None or not _distributes(config):
        seconds = 60 * float(os.environ.get("FASTMP_WATCHDOG_SCALE", "1"))
        config.stash[watchdog_key] = Watchdog(config.stash[directory_key], seconds)


def _distributes(config):
    return bool(config.getoption("numprocesses", None))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    node.workerinput["fastmp_directory"] = node.config.stash[directory_key]


def pytest_unconfigure(config):
    watchdog = config.stash.get(watchdog_key, None)
    if watchdog is not None:
        watchdog.close()
    if not hasattr(config, "workerinput"):
        shutil.rmtree(config.stash[directory_key], ignore_errors=True)


def pytest_terminal_summary(terminalreporter, config):
    """What the watchdog wrote about tests whose process it had to kill."""
    directory = config.stash[directory_key]
    for name in sorted(os.listdir(directory)):
        if not name.startswith("stacks-"):
            with open(os.path.join(directory, name), errors="replace") as file:
                terminalreporter.section("killed by the watchdog")
                terminalreporter.write(file.read() + "\n")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    watchdog = item.config.stash[watchdog_key]
    marker = item.get_closest_marker("watchdog")
    scale = float(os.environ.get("FASTMP_WATCHDOG_SCALE", "1"))
    watchdog.arm(item.nodeid, marker and marker.args[0] * scale)
    try:
        return (yield)
    finally:
        watchdog.disarm()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed or hasattr(report, "wasxfail"):
        item.stash[failed_key] = True
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item, nextitem):
    """After all teardown: did the watchdog have to act, and is anything left?"""
    try:
        result = yield
    except BaseException:
        item.stash[failed_key] = True
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        ended = item.config.stash[watchdog_key].report()
        before = item.stash.get(before_key, None)
        left = []
        if before is not None:
            item.funcargs.clear()  # the fixtures' values are torn down, but held here
            failed = ended is not None or item.stash.get(failed_key, False)
            if not failed and item.get_closest_marker("no_census") is None:
                left = census.settle(before)
            census.clean_up(before)
        if ended is not None:
            pytest.fail(ended, pytrace=False)
    if left:
        pytest.fail("the test left behind:\n  " + "\n  ".join(left), pytrace=False)
    return result
