"""The rules of the house (docs/architecture.md), as checks that return complaints.

Each check takes file texts, so that it can be shown to bite on a text that breaks its rule.
"""

import ast
import re

#: Rank of each floor; an include may only point to a lower rank, or to the same floor.
FLOORS = {"base": 0, "platform": 1, "sync": 2, "arena": 2, "channel": 3, "bridge": 4, "objects": 5}
#: module.h holds the module's state: every floor with Python may know it, module.c knows all.
PYTHON_FLOORS = {"bridge", "objects", ""}
LONGEST_FILE = 650

SYSTEM_HEADERS = {
    "linux/futex.h", "poll.h", "sys/epoll.h", "sys/eventfd.h", "sys/inotify.h", "sys/ioctl.h",
    "sys/mman.h", "sys/pidfd.h", "sys/prctl.h", "sys/random.h", "sys/select.h", "sys/socket.h",
    "sys/stat.h", "sys/syscall.h", "sys/timerfd.h", "sys/uio.h", "sys/un.h", "sys/wait.h",
    "unistd.h", "fcntl.h",
}  # fmt: skip
SYSTEM_CALLS = re.compile(
    r"accept4|bind|clone|close|connect|dup[23]?|epoll_(create1|ctl|wait)|eventfd|execvp?e?|fallocate"
    r"|fcntl|fork|ftruncate|getrandom|ioctl|kill|listen|madvise|memfd_create|mmap|mremap|msync"
    r"|munmap|nanosleep|open|openat|pidfd_open|pipe2?|p?poll|prctl|readv?|recv(msg)?|sched_yield"
    r"|select|send(msg)?|shm_open|sleep|socket|socketpair|syscall|usleep|vfork|wait(id|pid)|writev?"
)
GIL_WORDS = {"Py_BEGIN_ALLOW_THREADS", "PyEval_SaveThread", "PyEval_RestoreThread"}
GIL_HOME = "bridge/wait.c"
#: CPython's tables, which its API takes as non-const and nobody writes.
TABLE_TYPES = {
    "PyBufferProcs", "PyGetSetDef", "PyMemberDef", "PyMethodDef", "PyModuleDef",
    "PyModuleDef_Slot", "PyStructSequence_Desc", "PyStructSequence_Field", "PyType_Slot",
    "PyType_Spec",
}  # fmt: skip
FORK_MARK = "reset after fork"


def floor_of(name):
    """The floor of a file named relative to csrc/; "" for module.c and module.h."""
    return name.partition("/")[0] if "/" in name else ""


def code_of(text):
    """The text without comments and string contents; line numbers stay."""

    def blank(match):
        piece = match.group(0)
        return '""' if piece[0] in "\"'" else "\n" * piece.count("\n")

    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\''
    return re.sub(pattern, blank, text, flags=re.DOTALL)


def check_includes(name, text):
    """Dependencies point down; Python.h from the bridge up; system headers in platform."""
    floor = floor_of(name)
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
        if match is None:
            continue
        quote, header = match.groups()
        where = f"csrc/{name}:{number}"
        if header in ("Python.h", "structmember.h"):
            if floor not in PYTHON_FLOORS:
                yield f"{where}: {floor} is below Python and includes {header}"
        elif quote == "<":
            if header in SYSTEM_HEADERS and floor != "platform":
                yield f"{where}: only platform/ makes system calls, but this includes <{header}>"
        elif header == "module.h":
            if floor not in PYTHON_FLOORS:
                yield f"{where}: {floor} is below Python and includes module.h"
        elif floor_of(header) not in FLOORS:
            yield f"{where}: {header} is on no floor (include paths are relative to csrc/)"
        elif floor and floor_of(header) != floor and FLOORS[floor_of(header)] >= FLOORS[floor]:
            yield f"{where}: {floor} may not use {header}: dependencies point down"


def check_calls(name, text):
    """No Python below the bridge, no system call above platform, the GIL let go in one place."""
    floor = floor_of(name)
    for number, line in enumerate(code_of(text).splitlines(), 1):
        where = f"csrc/{name}:{number}"
        if floor not in PYTHON_FLOORS and re.search(r"\b_?Py[A-Z_]\w*", line):
            yield f"{where}: {floor} is below Python: {line.strip()}"
        for word in re.findall(r"(?<![.>\w])(\w+)\s*\(", line):
            if SYSTEM_CALLS.fullmatch(word) and floor != "platform":
                yield f"{where}: only platform/ makes system calls: {word}()"
        for word in GIL_WORDS & set(re.findall(r"\w+", line)):
            if name != GIL_HOME:
                yield f"{where}: only {GIL_HOME} lets the GIL go: {word}"


def check_shape(name, text):
    """A file opens with a comment that says what it is, and is not too long."""
    if not text.startswith("/* ") or name.rpartition("/")[2] not in text[: text.index("\n")]:
        yield f"csrc/{name}: does not open with a comment that names the file and says what it is"
    length = text.count("\n")
    if length > LONGEST_FILE:
        yield f"csrc/{name}: {length} lines, more than {LONGEST_FILE}"


def check_statics(name, text):
    """No mutable static variable but those whose comment says that a fork resets them."""
    code = code_of(text)
    lines = text.splitlines()
    for match in re.finditer(r"\bstatic\b([^;={(]*)([;={(])", code):
        declaration, end = match.groups()
        words = set(re.findall(r"\w+", declaration))
        if end == "(" and not words & {"alignas", "_Alignas", "__attribute__"}:
            continue  # a function
        if end == "{" or "const" in words or words & TABLE_TYPES:
            continue
        number = code.count("\n", 0, match.start()) + 1
        around = lines[max(0, number - 2) : number]
        if not any(FORK_MARK in line for line in around):
            yield f"csrc/{name}:{number}: a mutable static without /* {FORK_MARK} */"


CHECKS_OF_C = [check_includes, check_calls, check_shape, check_statics]

#: What the Python layer leaves to _core (or to the stdlib's modules, which it shares).
FORBIDDEN_IMPORTS = {"mmap", "ctypes", "struct", "fcntl", "_multiprocessing", "_posixshmem"}
MAY_IMPORT = {"sharedctypes.py": {"ctypes"}}


def _absolute_imports(tree):
    """(line, dotted name) of every import of another package, functions' own too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.lineno, node.module


def check_python_imports(name, text):
    """fastmp/*.py is thin: no mappings, no ctypes tricks, no wire formats."""
    allowed = MAY_IMPORT.get(name, set())
    for line, module in _absolute_imports(ast.parse(text)):
        top = module.partition(".")[0]
        if top in FORBIDDEN_IMPORTS - allowed:
            yield f"fastmp/{name}:{line}: imports {module}; that is _core's or the stdlib's work"


def _runs_at_import(tree):
    """The statements that run when the module is imported: no function bodies, no type checks."""
    for node in tree.body:
        yield from _statements(node)


def _statements(node):
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        for child in node.orelse:
            yield from _statements(child)
        return
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield from _statements(child)


def import_graph(files):
    """{module: modules of fastmp it imports while it is imported}; "" is the package itself."""
    modules = {name[:-3].replace("/", ".").removesuffix("__init__").rstrip(".") for name in files}
    graph = {}
    for name, text in files.items():
        module = name[:-3].replace("/", ".").removesuffix("__init__").rstrip(".")
        package = module if name.endswith("__init__.py") else module.rpartition(".")[0]
        edges = graph[module] = set()
        for node in _runs_at_import(ast.parse(text)):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            base = package.split(".") if package else []
            base = base[: len(base) - (node.level - 1)]
            target = ".".join(base + ([node.module] if node.module else []))
            for alias in node.names:
                full = f"{target}.{alias.name}".lstrip(".")
                edges.add(full if full in modules else target)
        edges.discard(module)
    return graph


def cycles(graph):
    """The import cycles, each as a list of modules; [] in a house without."""
    found, done = [], set()

    def visit(module, path):
        if module in path:
            found.append(path[path.index(module) :] + [module])
            return
        if module in done:
            return
        for target in sorted(graph.get(module, ())):
            visit(target, path + [module])
        done.add(module)

    for module in sorted(graph):
        visit(module, [])
    return found
