"""Which of the interpreter's tests are run: those whose ids touch multiprocessing.

A suite is one or more modules of the package ``test``, all of their ids or those that match a
pattern.  Three of the suites belong to a start method, which they set; the others choose their
methods themselves, or take the default.

Left out, since nothing of fastmp would run in them: test_venv (it starts Pythons in environments of
its own, in which nobody has installed fastmp), test_regrtest (it runs regrtest's workers, which
are no multiprocessing), test_socket's TestSocketSharing (Windows).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase

from .environment import PYTHONS

METHODS = ("fork", "spawn", "forkserver")

# What CI runs in turn, a part a day, besides the newest Python's fork.
PARTS = [
    (version, method)
    for version in PYTHONS
    for method in (*METHODS, "other")
    if (version, method) != (PYTHONS[-1], "fork")
]


@dataclass(frozen=True)
class Suite:
    """Tests of the interpreter's that are run together, in one process."""

    name: str
    modules: tuple[str, ...]
    method: str = ""  # the start method that it is about, if one
    ids: tuple[str, ...] = ("*",)  # patterns
    imports: bool = True  # whether fastmp must have been imported by the tests
    # Where the interpreter's build left the module out:
    stand_in: str = ""  # the text of one in its place
    borrows: bool = False  # whether another Python's does

    def chooses(self, test_id: str) -> bool:
        """Whether the test is one of the suite's."""
        return any(fnmatchcase(test_id, pattern) for pattern in self.ids)


def _of_method(method: str) -> Suite:
    """CPython's main suite.

    Some builds come with its body alone, without the module that calls it for a start method.
    """
    name = f"multiprocessing_{method}"
    stand_in = (
        "from test._test_multiprocessing import install_tests_in_module_dict\n"
        f"install_tests_in_module_dict(globals(), {method!r})\n"
    )
    return Suite(name, (f"test.test_{name}",), method, stand_in=stand_in)


def _some(name: str, *ids: str, modules: tuple[str, ...] = (), imports: bool = True) -> Suite:
    patterns = tuple(f"*.{part}" for part in ids)
    return Suite(name, modules or (f"test.test_{name}",), ids=patterns, imports=imports)


SUITES = (
    *map(_of_method, METHODS),
    Suite("multiprocessing_main_handling", ("test.test_multiprocessing_main_handling",)),
    Suite("concurrent_futures", ("test.test_concurrent_futures",), borrows=True),
    _some(
        "logging",
        "QueueHandlerTest.*",
        "QueueListenerTest.*",
        "LogRecordTest.*",
        "ConfigDictTest.*queue*",
    ),
    _some(
        "asyncio",
        "TestPyGetEventLoop.*",
        "*GetEventLoop*.*process*",
        "TestFork.*",
        modules=("test.test_asyncio.test_events", "test.test_asyncio.test_unix_events"),
    ),
    _some("compileall", "*worker*", "*parallel*"),
    _some("fcntl", "TestFcntl.test_lockf*"),
    _some("genericalias", "*"),
    _some("pickle", "CompatPickleTests.*"),
    _some("re", "*gh94675*"),
    _some("runpy", "RunModuleTestCase.*"),
    _some("threaded_import", "*", modules=("test.test_importlib.test_threaded_import",)),
    _some("site", "StartupImportTests.*", imports=False),
    _some("all", "*", modules=("test.test___all__",)),
)


def choose(methods: list[str], names: list[str]) -> list[Suite]:
    """The suites for these methods ("other": those of no method), or of these names."""
    chosen = [
        suite
        for suite in SUITES
        if (not methods or (suite.method or "other") in methods)
        and (not names or suite.name in names)
    ]
    unknown = set(names) - {suite.name for suite in SUITES}
    if unknown:
        raise ValueError(f"no such suite: {', '.join(sorted(unknown))}")
    return chosen


def part_of(day: date) -> tuple[str, str]:
    """The (Python, method) that CI runs on that day."""
    return PARTS[day.toordinal() % len(PARTS)]
