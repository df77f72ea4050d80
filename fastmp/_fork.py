"""os.fork() for a process that has one thread.

After a fork the child's threading module looks after the locks of threads that are no more.  That
takes a third of the time of a child that does nothing: it runs through Python code, classes and
sets that the child has to copy, page by page, for having touched them.  Where there are no other
threads, nothing comes of it, so for the time of the fork the function is one that does nothing.
"""

import os
import threading
from _thread import get_ident

from ._core import Fork

__all__ = ["fork"]

_hook = threading._after_fork
_code = _hook.__code__
_nothing = (lambda: None).__code__

# What the known versions of it refer to: 3.13, and 3.10-3.12.
_NAMES = frozenset("""
    RLock _active_limbo_lock _active get_ident KeyError _MainThread _main_thread set _enumerate
    update _dangling _after_fork _limbo clear len
""".split())  # fmt: skip  # noqa: SIM905
_OLDER_NAMES = (_NAMES - {"_after_fork"}) | frozenset("""
    _allocate_lock _shutdown_locks_lock _shutdown_locks _reset_internal_locks _ident _stop
""".split())  # fmt: skip  # noqa: SIM905

_is_known = frozenset(_code.co_names) in (_NAMES, _OLDER_NAMES)


def _is_alone():
    """Whether no other thread runs, begins, or ended that anybody still knows."""
    return (
        _is_known
        and len(threading._active) == len(threading._dangling.data) == 1
        and not threading._limbo
        and threading._active.get(get_ident()) is threading._main_thread
        and not threading._active_limbo_lock._is_owned()
    )


#: ``os.fork()``.
fork = Fork(
    os=vars(os), threading=vars(threading), is_alone=_is_alone, hook=_hook, nothing=_nothing
)
