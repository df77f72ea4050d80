"""Start-up hook: makes ``import multiprocessing`` give fastmp, at no cost until somebody does it.

``fastmp.pth``, installed beside this file, calls ``enable()`` as Python starts if the environment
variable ``FASTMP_INSTALL`` is set; the command line of a child process that fastmp starts calls it
too.  It puts a finder in place and returns: neither multiprocessing nor fastmp is imported here.

If ``FASTMP_LOG`` names a file, each process that is enabled appends lines to it: its pid, the
event, what the name ``multiprocessing`` means at that moment, and the command.
"""

import os
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import PathFinder

__all__ = ["enable", "is_enabled"]

_enabled = False
_root = None


class _Finder:
    """Finds ``multiprocessing``, and the fastmp of the process that started this one."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "multiprocessing":
            return ModuleSpec(name, _Loader, is_package=True)
        if name == "fastmp" and _root is not None:
            return PathFinder.find_spec(name, [_root])
        return None


class _Loader:
    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        try:
            import fastmp
        except ImportError as e:
            raise ImportError(
                f"multiprocessing is to be replaced by fastmp, which cannot be imported: {e}"
            ) from e
        # The import system takes from sys.modules what a module has put in its own place.
        sys.modules["multiprocessing"] = fastmp


def is_enabled():
    """Whether ``import multiprocessing`` gives, or will give, fastmp in this process."""
    return _enabled


def enable(root=None):
    """Let ``multiprocessing`` mean fastmp for every import from now on in this process.

    *root* is the directory that holds fastmp, if it is to be taken from there and nowhere else.
    """
    global _enabled, _root
    if _root is None:
        _root = root  # FASTMP_INSTALL, which knows none, may have come first
    if _enabled:
        return
    _enabled = True
    sys.meta_path.insert(0, _Finder)
    if "multiprocessing" in sys.modules:
        import fastmp

        fastmp.install()
    if os.environ.get("FASTMP_LOG"):
        _start_log()


def _start_log():
    import atexit

    _log("start")
    atexit.register(_log, "exit")
    os.register_at_fork(after_in_child=lambda: _log("fork"))


def _log(event):
    module = sys.modules.get("multiprocessing")
    meaning = "-" if module is None else "fastmp" if module.__name__ == "fastmp" else "stdlib"
    line = f"{os.getpid()} {event} {meaning} {sys.orig_argv!r}\n"
    fd = os.open(os.environ["FASTMP_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(fd, line.encode("utf-8", "backslashreplace"))
    finally:
        os.close(fd)
