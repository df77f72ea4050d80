"""``fastmp.install()``: ``import multiprocessing`` gives fastmp, here and in the children.

A child made by fork inherits it.  Every other child Python that multiprocessing starts (spawn, the
forkserver, the resource tracker) is started by ``util.spawnv_passfds`` with a ``-c`` command; it is
wrapped to put the same substitution in front of the command.  A forkserver that ran before cannot
be told so; the preparation data that its children read first does it for them.
"""

import functools
import os
import sys

from . import _std

__all__ = ["child_command", "install"]

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

_PREFIX = (
    f"import sys; sys.path.insert(0, {_ROOT!r}); import _fastmp_hook; "
    "_fastmp_hook.enable(sys.path.pop(0)); "
)

_THEIRS = "from multiprocessing."


def install() -> None:
    """Make ``multiprocessing`` mean fastmp in this process and its children, from now on.

    Every later ``import multiprocessing``, or of one of its submodules, gives fastmp.  Modules that
    have imported the stdlib's before keep what they have, and the two work together.  Calling it
    again does nothing.
    """
    _hook().enable(_ROOT)
    _std.replace()
    _std.when_loaded("util", _wrap_launch)
    _std.when_loaded("forkserver", _wrap_preparation)


def _hook():
    """The start-up hook, which lies beside the package, wherever ``sys.path`` leads."""
    if "_fastmp_hook" not in sys.modules:
        sys.path.insert(0, _ROOT)
        try:
            import _fastmp_hook  # noqa: F401
        finally:
            sys.path.remove(_ROOT)
    return sys.modules["_fastmp_hook"]


def child_command(args):
    """The command line *args* of a child Python, with the substitution in front if it is in force.

    Only what the stdlib writes is changed: ``-c "from multiprocessing..."``, which 3.14 has begin
    with ``import sys;`` for the forkserver.
    """
    if not _std.is_replaced():
        return args
    args = list(args)
    for i, arg in enumerate(args[:-1]):
        if arg == "-c" and args[i + 1].removeprefix("import sys; ").startswith(_THEIRS):
            args[i + 1] = _PREFIX + args[i + 1]
            break
    return args


def _wrap_launch(util):
    launch = util.spawnv_passfds

    @functools.wraps(launch)
    def spawnv_passfds(path, args, passfds):
        return launch(path, child_command(args), passfds)

    util.spawnv_passfds = spawnv_passfds


def _wrap_preparation(forkserver):
    if forkserver._forkserver._forkserver_address is None:
        return
    prepare = forkserver.spawn.get_preparation_data

    @functools.wraps(prepare)
    def get_preparation_data(name):
        return {"fastmp": _InstallsWhenLoaded(), **prepare(name)}

    forkserver.spawn.get_preparation_data = get_preparation_data


class _InstallsWhenLoaded:
    """Pickled, it is a call of ``install()``."""

    def __reduce__(self):
        return install, ()
