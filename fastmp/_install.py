"""``fastmp.install()``: ``import multiprocessing`` gives fastmp, here and in the children.

A child made by fork inherits it.  Every other child Python that multiprocessing starts (spawn, the
forkserver, the resource tracker) is started by ``util.spawnv_passfds`` with a ``-c`` command; it is
wrapped to put the same substitution in front of the command.  A forkserver that ran before cannot
be told so; the preparation data that its children read first does it for them.
"""

import os
import sys

from . import _std, process

__all__ = ["child_command", "install", "spawn_command", "wrap_launch"]

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# What a child is to run first: fastmp comes from where its parent's is.
_FIND = f"import sys; sys.path.insert(0, {_ROOT!r}); import "
_REPLACE = _FIND + "_fastmp_hook; _fastmp_hook.enable(sys.path.pop(0)); "
_IMPORT = _FIND + "fastmp; sys.path.pop(0); "

_THEIRS = "from multiprocessing."
_SERVER = "from multiprocessing.forkserver import main; "
_SPAWNED = "from multiprocessing.spawn import spawn_main; "


def install() -> None:
    """Make ``multiprocessing`` mean fastmp in this process and its children, from now on.

    Every later ``import multiprocessing``, or of one of its submodules, gives fastmp.  Modules that
    have imported the stdlib's before keep what they have, and the two work together.  Calling it
    again does nothing.
    """
    _hook().enable(_ROOT)
    _std.replace()
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
    """The command line *args* of a child Python, with what fastmp puts in front of it.

    That is the substitution if it is in force, and in a fork server what its children need.  Only
    what the stdlib writes is changed: ``-c "from multiprocessing..."``, which 3.14 has begin with
    ``import sys;`` for the forkserver.
    """
    return _with_command(args, _command)


def _command(command):
    theirs = command.removeprefix("import sys; ")
    is_server = theirs.startswith(_SERVER)
    if not theirs.startswith(_THEIRS) or not (is_server or _std.is_replaced()):
        return command
    prefix = _REPLACE if _std.is_replaced() else _IMPORT
    if is_server:
        prefix += f"from fastmp._served import begin; begin({_main_path()!r}); "
    return prefix + command


def _main_path():
    """Where the main module is that children will run, as get_preparation_data() has it."""
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    if path is None or getattr(getattr(main, "__spec__", None), "name", None) is not None:
        return None
    return os.path.normpath(os.path.join(process.ORIGINAL_DIR or "", path))


def spawn_command(args):
    """The command line *args* of a spawned child, with fastmp's beginning for the stdlib's."""
    return _with_command(args, _spawn_command)


def _spawn_command(command):
    if not command.startswith(_SPAWNED):
        return command
    prefix = _REPLACE if _std.is_replaced() else _IMPORT
    return prefix + command.replace("multiprocessing.spawn", "fastmp._started", 1)


def _with_command(args, change):
    args = list(args)
    if "-c" in args[:-1]:
        i = args.index("-c") + 1
        args[i] = change(args[i])
    return args


def wrap_launch(util):
    """Have the children that *util* starts run what child_command() says."""
    import functools  # which the module's own imports have loaded by now

    launch = util.spawnv_passfds

    @functools.wraps(launch)
    def spawnv_passfds(path, args, passfds):
        return launch(path, child_command(args), passfds)

    util.spawnv_passfds = spawnv_passfds


def _wrap_preparation(forkserver):
    if forkserver._forkserver._forkserver_address is None:
        return
    import functools

    prepare = forkserver.spawn.get_preparation_data

    @functools.wraps(prepare)
    def get_preparation_data(name):
        return {"fastmp": _InstallsWhenLoaded(), **prepare(name)}

    forkserver.spawn.get_preparation_data = get_preparation_data


class _InstallsWhenLoaded:
    """Pickled, it is a call of ``install()``."""

    def __reduce__(self):
        return install, ()
