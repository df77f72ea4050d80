"""The house stands as docs/architecture.md draws it; and each check bites."""

from pathlib import Path

import pytest

from tests.support import house

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.once("about the sources")

CSRC = {str(p.relative_to(ROOT / "csrc")): p.read_text() for p in ROOT.glob("csrc/**/*.[ch]")}
PYTHON = {str(p.relative_to(ROOT / "fastmp")): p.read_text() for p in ROOT.glob("fastmp/**/*.py")}


def test_the_sources_were_found():
    assert "module.c" in CSRC and "__init__.py" in PYTHON
    assert {house.floor_of(name) for name in CSRC} <= {*house.FLOORS, ""}


@pytest.mark.parametrize("check", house.CHECKS_OF_C, ids=lambda check: check.__name__)
def test_c(check):
    complaints = [line for name, text in sorted(CSRC.items()) for line in check(name, text)]
    assert not complaints, "\n" + "\n".join(complaints)


def test_python_imports():
    complaints = [
        line for name, text in PYTHON.items() for line in house.check_python_imports(name, text)
    ]
    assert not complaints, "\n" + "\n".join(complaints)


def test_python_modules_do_not_import_in_circles():
    graph = house.import_graph(PYTHON)
    assert graph[""], "the package imports none of its modules?"
    assert house.cycles(graph) == []


GOOD_OPENING = "/* x.c - something. */\n"

BAD_C = {
    "python below": (house.check_includes, "sync/x.c", "#include <Python.h>\n"),
    "module below": (house.check_includes, "channel/x.c", '#include "module.h"\n'),
    "upwards": (house.check_includes, "sync/x.c", '#include "channel/ring.h"\n'),
    "sideways": (house.check_includes, "arena/x.c", '#include "sync/mutex.h"\n'),
    "no floor": (house.check_includes, "channel/x.c", '#include "ring.h"\n'),
    "system header": (house.check_includes, "objects/x.c", "#include <sys/mman.h>\n"),
    "python call below": (house.check_calls, "sync/x.c", "int x = PyErr_Occurred();\n"),
    "system call": (house.check_calls, "channel/x.c", "    if (poll(&p, 1, 5) < 0) {\n"),
    "gil": (house.check_calls, "objects/x.c", "    Py_BEGIN_ALLOW_THREADS\n"),
    "no opening": (house.check_shape, "sync/x.c", "#include <stdio.h>\n"),
    "another's opening": (house.check_shape, "sync/x.c", "/* y.c - something. */\n"),
    "long": (house.check_shape, "sync/x.c", GOOD_OPENING + "\n" * 650),
    "static": (house.check_statics, "sync/x.c", "static int count;\n"),
    "static array": (house.check_statics, "sync/x.c", "static struct list free_lists[4];\n"),
    "static in a function": (house.check_statics, "sync/x.c", "{\n    static int n = 0;\n}\n"),
    "static aligned": (house.check_statics, "sync/x.c", "static alignas(64) char room[64];\n"),
}


@pytest.mark.parametrize("case", BAD_C)
def test_a_bad_c_file_is_found(case):
    check, name, text = BAD_C[case]
    assert list(check(name, text))


GOOD_C = {
    "down": (house.check_includes, "channel/x.c", '#include "sync/mutex.h"\n#include <string.h>\n'),
    "python above": (
        house.check_includes,
        "bridge/x.c",
        '#include <Python.h>\n#include "module.h"',
    ),
    "in a comment": (house.check_calls, "sync/x.c", "/* like PyMutex, or poll(fd) */\n"),
    "in a string": (house.check_calls, "sync/x.c", 'puts("poll() and Py_DECREF");\n'),
    "a member": (house.check_calls, "channel/x.c", "    x->read(y); x.write(z);\n"),
    "platform": (house.check_calls, "platform/x.c", "    poll(&p, 1, 5);\n"),
    "static function": (house.check_statics, "sync/x.c", "static int\nf(void)\n{\n}\n"),
    "static const": (house.check_statics, "sync/x.c", "static const int n = 3;\n"),
    "static table": (house.check_statics, "sync/x.c", "static PyMethodDef m[] = {\n"),
    "marked": (house.check_statics, "sync/x.c", "static int n; /* reset after fork */\n"),
    "opening": (house.check_shape, "sync/x.c", GOOD_OPENING),
}


@pytest.mark.parametrize("case", GOOD_C)
def test_a_good_c_file_passes(case):
    check, name, text = GOOD_C[case]
    assert list(check(name, text)) == []


def test_a_bad_python_import_is_found():
    for text in ("import mmap", "from ctypes import CDLL", "def f():\n    import struct"):
        assert list(house.check_python_imports("queues.py", text))
    assert not list(house.check_python_imports("sharedctypes.py", "import ctypes"))


def test_a_circle_is_found():
    files = {
        "__init__.py": "from . import a",
        "a.py": "from .b import x",
        "b.py": "from . import a",
        "c.py": "def f():\n    from . import a",
    }
    assert house.cycles(house.import_graph(files)) == [["a", "b", "a"]]
    files["b.py"] = "def f():\n    from . import a"
    assert house.cycles(house.import_graph(files)) == []
    files["b.py"] = "from . import Pool"
    assert house.cycles(house.import_graph(files)) == [["", "a", "b", ""]]
