"""The first and last steps of a child.

A page that the child writes to is copied first, and a reference count is a write, so every object
it looks at costs: of the time that a child takes which does nothing, a third was spent in
``BaseProcess._bootstrap()``, most of it on opening /dev/null as its standard input.  Here are the
same steps without the needless ones.  They are taken only in the place of a ``_bootstrap()`` that
is known step by step; any other (a later Python's, a subclass's, one that a tool has put there) is
called.

A spawned child takes these steps too: it has no pages to copy, but may not have loaded
``multiprocessing.util`` yet, and what was not loaded has nothing to be done about.
"""

import atexit
import io
import itertools
import os
import sys
import threading

from . import _exit, _std, process, util

__all__ = ["bootstrap", "flush_std_streams", "prepare", "run"]

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
_AFTER_FORK = frozenset(["_finalizer_registry", "clear", "_run_after_forkers", "util"])


def _names(function):
    code = getattr(function, "__code__", None)
    return frozenset(code.co_names) - {""} if code is not None else None


_is_known = (
    _names(_bootstrap) in (_STEPS, _STEPS | {"_exit_function"})
    and _names(process.BaseProcess._after_fork) == _AFTER_FORK
)

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


# The next child's standard input, made in the parent: there it costs least.
_stdin = None

# What to do after the fork, in classes that leave it to the stdlib's BaseProcess.
_plain_hooks: tuple = ()


def prepare():
    """Make, before the fork, what the child is going to need."""
    global _stdin, _plain_hooks
    if _stdin is None:
        _stdin = io.TextIOWrapper(io.BufferedReader(_Nothing()), encoding="utf-8")
        _stdin.mode = "r"  # type: ignore[misc]  # as open() does
    if not _plain_hooks:
        from .context import Process

        # The default Process asks the context in force, which is known if it gets here.
        _plain_hooks = (process.BaseProcess._after_fork, Process._after_fork)


def bootstrap(process_obj, parent_sentinel):
    """``process_obj._bootstrap()``: run it; its exit code."""
    if _is_known and type(process_obj)._bootstrap is _bootstrap:
        return _run_known(process_obj, parent_sentinel)
    return process_obj._bootstrap(parent_sentinel=parent_sentinel)


def run(process_obj, parent_sentinel):
    """Be the child: run *process_obj* and exit."""
    code = 1
    runs_atexit = hasattr(_std.popen_fork, "atexit")  # since 3.13
    try:
        if runs_atexit:
            atexit._clear()
            atexit.register(_exit.chosen())
        code = bootstrap(process_obj, parent_sentinel)
    finally:
        # Whatever happens, the child must not go on in its parent's code.
        try:
            if runs_atexit:
                atexit._run_exitfuncs()
        finally:
            os._exit(code)


def _run_known(self, parent_sentinel):
    """BaseProcess._bootstrap(), step by step."""
    global _stdin
    try:
        method = self._start_method
        if method is not None:
            context = _context._default_context._actual_context
            if context is None or context._name != method:
                _context._force_start_method(method)
        process._process_counter = itertools.count(1)
        process._children = set()
        stdin = sys.stdin
        if stdin is not None:
            sys.stdin, _stdin = _stdin, None
            try:
                stdin.close()
            except (OSError, ValueError):
                pass
        old_process = process._current_process
        process._current_process = self
        process._parent_process = process._ParentProcess(
            self._parent_name, self._parent_pid, parent_sentinel
        )
        if threading._HAVE_THREAD_NATIVE_ID:
            threading.main_thread()._set_native_id()
        try:
            if type(self)._after_fork in _plain_hooks:
                if _std.is_loaded(util):
                    util._finalizer_registry.clear()
                    if util._afterfork_registry.data:
                        util._run_after_forkers()
            else:
                self._after_fork()
        finally:
            # What runs after the fork may still need it.
            del old_process
        if _is_logging():
            util.info("child process calling self.run()")
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
        threading._shutdown()
        if _is_logging():
            util.info(f"process exiting with exitcode {exitcode}")
        flush_std_streams()
    return exitcode


def _is_logging():
    return _std.is_loaded(util) and util._logger


def flush_std_streams():
    """What the standard library has in ``util``, which may not be loaded."""
    for name in "stdout", "stderr":
        try:
            getattr(sys, name).flush()
        except (AttributeError, ValueError):
            pass
