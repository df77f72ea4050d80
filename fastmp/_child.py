"""The first and last steps of a child.

A page that the child writes to is copied first, and a reference count is a write, so every object
it looks at costs: of the time that a child takes which does nothing, two fifths were spent in
``BaseProcess._bootstrap()`` and around it.  ``_core.Child`` takes the same steps without Python
code and without the needless ones, and what can be made or decided before the fork is, by
``prepare()``, for this child and those after it.  They are taken only in the place of a
``_bootstrap()`` that is known step by step; any other (a later Python's, a subclass's, one that a
tool has put there) is called.  What is rare of them is here.

A spawned child takes these steps too: it has no pages to copy, but may not have loaded
``multiprocessing.util`` yet, and what was not loaded has nothing to be done about.
"""

import atexit
import io
import itertools
import os
import sys
import threading

from . import _core, _exit, _std, process

TYPE_CHECKING = False  # for type checkers, without importing typing
if TYPE_CHECKING:
    from typing import Any

__all__ = ["flush_std_streams", "prepare"]

_context = _std.context
_bootstrap = process.BaseProcess._bootstrap

# What the known versions of _bootstrap() refer to, 3.10-3.13; up to 3.12 _exit_function too.
_STEPS = frozenset("""
    _start_method _force_start_method itertools count _process_counter set _children _close_stdin
    _current_process _ParentProcess _parent_name _parent_pid _parent_process threading
    _HAVE_THREAD_NATIVE_ID main_thread _set_native_id _after_fork info run SystemExit code
    isinstance int sys stderr write str traceback name print_exc _shutdown _flush_std_streams
    context util
""".split())  # fmt: skip  # noqa: SIM905
_FORCE = frozenset(["_concrete_contexts", "_default_context", "_actual_context"])
_AFTER_FORK = frozenset(["_finalizer_registry", "clear", "_run_after_forkers", "util"])


def _names(function):
    code = getattr(function, "__code__", None)
    return frozenset(code.co_names) - {""} if code is not None else None


_is_known = (
    _names(_bootstrap) in (_STEPS, _STEPS | {"_exit_function"})
    and _names(process.BaseProcess._after_fork) == _AFTER_FORK
    and _names(_context._force_start_method) == _FORCE
)

_shutdown = threading._shutdown
_leave = os._exit

# Up to 3.12 the known _bootstrap() calls the exit function, as no atexit handler runs after fork.
_calls_exit_function = _is_known and "_exit_function" in _bootstrap.__code__.co_names


class _Nothing(io.RawIOBase):
    """/dev/null, opened when somebody asks for its descriptor."""

    mode = "rb"
    _fd = -1

    def readable(self):
        return True

    def readinto(self, buffer):
        return 0

    def fileno(self):
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if self._fd < 0:
            self._fd = os.open(os.devnull, os.O_RDONLY)
        return self._fd

    @property
    def name(self):
        return self.fileno()


#: ``multiprocessing.util``, once it is loaded.
_util = None


def _know(module):
    global _util
    _util = module


_std.when_loaded("util", _know)


#
# Before the fork
#


def _closing(stdin: "Any"):
    """What closes a standard input at the least cost.

    The layers of a file say that they are closed when the lowest is.
    """
    try:
        if type(stdin) is io.TextIOWrapper and type(stdin.buffer) is io.BufferedReader:
            raw = stdin.buffer.raw
            if type(raw) is io.FileIO:
                return raw.close
    except ValueError:  # a layer was detached
        pass
    return lambda: stdin.close()


class _Prepared(_core.Child):
    """What the children of this process need: each takes it in its own copy."""

    def __init__(self):
        self.parent = None  # the child's parent_process()
        self.calls_exit_function = _calls_exit_function
        self.steps = globals()
        self.process = vars(process)
        self.threading = vars(threading)
        self.atexit = vars(atexit)
        self.os = vars(os)
        self.sys = vars(sys)
        self.default_context = _context._default_context
        self.shutdown = _shutdown
        self.leave = _leave
        self.exit_handler = _exit.handler
        self.old_stdin = sys.__stdin__
        self.close_stdin = _closing(sys.__stdin__)
        self.counter = itertools.count(1)
        self.children = set()
        self.stdin = io.TextIOWrapper(io.BufferedReader(_Nothing()), encoding="utf-8")
        self.stdin.mode = "r"  # type: ignore[misc]  # as open() does

    def parent_called(self, name, pid):
        """The object for the parent, which may have been renamed since the last child."""
        parent = self.parent
        if parent is None or parent._pid != pid or parent._name != name:
            parent = self.parent = process._ParentProcess(name, pid, None)
        return parent

    def look_around(self):
        """Take what may be another since the last child."""
        self.replaced = process._current_process, process._process_counter, process._children
        if _util is not None and self.after_forkers is None:
            self.after_forkers = _util._afterfork_registry.data
            self.exit_function = _exit.handler.function


_prepared: "_Prepared | None" = None

# What to do after the fork, in classes that leave it to the stdlib's BaseProcess.
_plain_hooks: tuple = ()


def prepare(process_obj=None):
    """Make, before the fork, what the child is going to need: a _core.Child.

    With it, of *process_obj*, what the child has to know, which may be another's in another thread:
    whether there are hooks to call, the context to set or None, and the parent; None if its
    ``_bootstrap()`` is another than the known one.
    """
    global _prepared, _plain_hooks
    ready = _prepared
    if ready is None or ready.is_taken:
        ready = _prepared = _Prepared()
    if process_obj is None or not _is_known or type(process_obj)._bootstrap is not _bootstrap:
        return ready, None
    if not _plain_hooks:
        from .context import Process

        # The default Process asks the context in force, which is known if it gets here.
        _plain_hooks = (process.BaseProcess._after_fork, Process._after_fork)
    ready.look_around()
    context = None
    method = process_obj._start_method
    if method is not None:
        context = _context._default_context._actual_context
        if context is not None and context._name == method:
            context = None
        else:
            context = _context._concrete_contexts[method]
    parent = ready.parent_called(process_obj._parent_name, process_obj._parent_pid)
    return ready, (type(process_obj)._after_fork not in _plain_hooks, context, parent)


#
# In the child, called by _core.Child for what is rare
#


def _call_bootstrap(self, parent_sentinel):
    """A _bootstrap() that is not known."""
    return self._bootstrap(parent_sentinel=parent_sentinel)


def _begin_util(has_hook):
    assert _util is not None
    if not has_hook:
        _util._finalizer_registry.clear()
        _util._run_after_forkers()
    _util.info("child process calling self.run()")


def _report(self, error, has_run):
    """Say what has ended the process; its exit code."""
    if isinstance(error, SystemExit):
        sys.stderr.write(str(error.code) + "\n")
        return 1
    import traceback

    sys.stderr.write(f"Process {self.name}:\n")
    report = traceback.TracebackException(type(error), error, error.__traceback__, compact=True)
    if has_run:
        report.stack.insert(0, _caller(traceback.FrameSummary))
    for line in report.format():
        print(line, file=sys.stderr, end="")
    return 1


def _caller(summary):
    """The stdlib's frame for which _core.Child stands, as a traceback shows it."""
    import linecache

    code = _bootstrap.__code__
    number, call = code.co_firstlineno, "self.run()"
    for at in sorted({line for _, _, line in code.co_lines() if line}):
        if linecache.getline(code.co_filename, at).strip() == call:
            number = at
    if sys.version_info < (3, 11):
        return summary(code.co_filename, number, code.co_name)
    begin = linecache.getline(code.co_filename, number).find(call)
    place = {"end_lineno": number, "colno": begin, "end_colno": begin + len(call)}
    return summary(code.co_filename, number, code.co_name, **place)


def _log_exit(exitcode):
    assert _util is not None
    _util.info(f"process exiting with exitcode {exitcode}")


def _exit_function():
    _exit.chosen()()


_chosen_handler = _exit.chosen


def flush_std_streams():
    """What the standard library has in ``util``, which may not be loaded."""
    try:
        sys.stdout.flush()
    except (AttributeError, ValueError):
        pass
    try:
        sys.stderr.flush()
    except (AttributeError, ValueError):
        pass
