"""The first and last steps of a child.

A page that the child writes to is copied first, and a reference count is a write, so every object
it looks at costs: of the time that a child takes which does nothing, a third was spent in
``BaseProcess._bootstrap()``.  Here are the same steps without the needless ones, and what can be
made or decided before the fork is, by ``prepare()``, for this child and those after it.  They are
taken only in the place of a ``_bootstrap()`` that is known step by step; any other (a later
Python's, a subclass's, one that a tool has put there) is called.

A spawned child takes these steps too: it has no pages to copy, but may not have loaded
``multiprocessing.util`` yet, and what was not loaded has nothing to be done about.
"""

import atexit
import io
import itertools
import os
import sys
import threading
from _thread import get_native_id

from . import _exit, _std, process

TYPE_CHECKING = False  # for type checkers, without importing typing
if TYPE_CHECKING:
    from typing import Any

__all__ = ["bootstrap", "flush_std_streams", "prepare", "run"]

_context = _std.context
_names_of_process = vars(process)
_bootstrap = process.BaseProcess._bootstrap

# What the known versions of _bootstrap() refer to, 3.10-3.13; up to 3.12 _exit_function too.
_STEPS = frozenset("""
    _start_method _force_start_method itertools count _process_counter set _children _close_stdin
    _current_process _ParentProcess _parent_name _parent_pid _parent_process threading
    _HAVE_THREAD_NATIVE_ID main_thread _set_native_id _after_fork info run SystemExit code
    isinstance int sys stderr write str traceback name print_exc _shutdown _flush_std_streams
    context util
""".split())  # fmt: skip  # noqa: SIM905
_AFTER_FORK = frozenset(["_finalizer_registry", "clear", "_run_after_forkers", "util"])


def _names(function):
    code = getattr(function, "__code__", None)
    return frozenset(code.co_names) - {""} if code is not None else None


_is_known = (
    _names(_bootstrap) in (_STEPS, _STEPS | {"_exit_function"})
    and _names(process.BaseProcess._after_fork) == _AFTER_FORK
)

_shutdown = threading._shutdown

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


class _Prepared:
    """What the children of this process need: each takes it in its own copy."""

    def __init__(self):
        self.is_taken = False
        self.current = None  # this process, kept in the child as well: its end would cost
        self.parent = None  # the child's parent_process()
        self.old_stdin = sys.__stdin__
        self.close_stdin = _closing(sys.__stdin__)
        self.stdin = io.TextIOWrapper(io.BufferedReader(_Nothing()), encoding="utf-8")
        self.stdin.mode = "r"  # type: ignore[misc]  # as open() does
        # What becomes of the names of multiprocessing.process, with two that are the child's.
        self.names = {"_process_counter": itertools.count(1), "_children": set()}

    def parent_called(self, name, pid):
        """The object for the parent, which may have been renamed since the last child."""
        parent = self.parent
        if parent is None or parent._pid != pid or parent._name != name:
            parent = self.parent = process._ParentProcess(name, pid, None)
        return parent


_prepared: "_Prepared | None" = None

# What to do after the fork, in classes that leave it to the stdlib's BaseProcess.
_plain_hooks: tuple = ()


def prepare(process_obj=None):
    """Make, before the fork, what the child is going to need.

    Of *process_obj*, what bootstrap() has to know, which may be called in a thread among others:
    whether there are hooks to call, the start method to set or None, and the parent; None if its
    ``_bootstrap()`` is another than the known one.
    """
    global _prepared, _plain_hooks
    ready = _prepared
    if ready is None or ready.is_taken:
        ready = _prepared = _Prepared()
    if process_obj is None or not _is_known or type(process_obj)._bootstrap is not _bootstrap:
        return None
    if not _plain_hooks:
        from .context import Process

        # The default Process asks the context in force, which is known if it gets here.
        _plain_hooks = (process.BaseProcess._after_fork, Process._after_fork)
    ready.current = process._current_process
    method = process_obj._start_method
    if method is not None:
        context = _context._default_context._actual_context
        if context is not None and context._name == method:
            method = None
    parent = ready.parent_called(process_obj._parent_name, process_obj._parent_pid)
    return type(process_obj)._after_fork not in _plain_hooks, method, parent


#
# In the child
#


def run(process_obj, parent_sentinel, known, runs_atexit):
    """Be the child of a fork: run *process_obj* and exit.

    *known* is what ``prepare(process_obj)`` said, *runs_atexit* whether exit functions are called.
    """
    code = 1
    try:
        if runs_atexit:
            atexit._clear()
            atexit.register(_exit.handler if _util is None else _exit.chosen())
        code = bootstrap(process_obj, parent_sentinel, known)
    finally:
        # Whatever happens, the child must not go on in its parent's code.
        try:
            if runs_atexit and not _has_nothing_to_do_at_exit():
                atexit._run_exitfuncs()
        finally:
            os._exit(code)


def bootstrap(self, parent_sentinel, known):
    """``self._bootstrap()``: run it; its exit code.  *known*: what ``prepare(self)`` said."""
    if known is None:
        return self._bootstrap(parent_sentinel=parent_sentinel)
    has_hook, method, parent = known
    ready = _prepared
    ready.is_taken = True
    try:
        if method is not None:
            _context._force_start_method(method)
        parent._sentinel = parent_sentinel
        names = ready.names
        names["_current_process"] = self
        names["_parent_process"] = parent
        _names_of_process.update(names)
        stdin = sys.stdin
        if stdin is not None:
            sys.stdin = ready.stdin
            try:
                if stdin is ready.old_stdin:
                    ready.close_stdin()
                else:
                    stdin.close()
            except (OSError, ValueError):
                pass
        if threading._HAVE_THREAD_NATIVE_ID:
            threading._main_thread._native_id = get_native_id()
        if has_hook:
            self._after_fork()
        elif _util is not None:
            _util._finalizer_registry.clear()
            if _util._afterfork_registry.data:
                _util._run_after_forkers()
        if _util is not None and _util._logger:
            _util.info("child process calling self.run()")
        try:
            self.run()
            exitcode = 0
        finally:
            if _calls_exit_function:
                _exit.chosen()()
    except SystemExit as e:
        if e.code is None:
            exitcode = 0
        elif isinstance(e.code, int):
            exitcode = e.code
        else:
            sys.stderr.write(str(e.code) + "\n")
            exitcode = 1
    except:  # noqa: E722
        exitcode = 1
        import traceback

        sys.stderr.write(f"Process {self.name}:\n")
        traceback.print_exc()
    finally:
        if not _has_nothing_to_shut_down():
            threading._shutdown()
        if _util is not None and _util._logger:
            _util.info(f"process exiting with exitcode {exitcode}")
        flush_std_streams()
    return exitcode


def _has_nothing_to_shut_down():
    """Whether no thread is to be waited for, and nothing comes after that could tell."""
    return (
        threading._shutdown is _shutdown
        and len(threading._active) == 1
        and not threading._limbo
        and not threading._threading_atexits
        and _has_nothing_to_do_at_exit()
    )


def _has_nothing_to_do_at_exit():
    """Whether there is no exit function but the stdlib's, and nothing for that to do."""
    return _util is None and not process._children and atexit._ncallbacks() == 1


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
