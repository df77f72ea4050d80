"""The first steps of a child that is not a copy of its parent: spawn's, and the fork server's.

The parent sends what the stdlib's sends, two pickles: what the child has to know of it, and the
process object. What is done with them is what ``spawn._main()`` and ``spawn.prepare()`` do, but
without loading the modules that these stand on, which takes as long as the interpreter's own start.
The stdlib's functions are called where they are not known step by step.
"""

import io
import os
import sys
from _frozen_importlib_external import MAGIC_NUMBER

from . import _child, _std, process

try:
    from _pickle import load
except ImportError:  # a Python without it
    from pickle import load

__all__ = ["compile_main", "is_known", "main", "receive", "spawn_main"]

ModuleType = type(sys)

# What the known versions of spawn._main() and spawn.prepare() refer to, 3.10-3.14.
_MAIN = frozenset("""
    os fdopen process current_process _inheriting reduction pickle load prepare _bootstrap
""".split())  # fmt: skip  # noqa: SIM905
_PREPARE = frozenset("""
    process current_process name authkey util log_to_stderr get_logger setLevel sys path argv os
    chdir ORIGINAL_DIR set_start_method _fixup_main_from_name _fixup_main_from_path
""".split())  # fmt: skip  # noqa: SIM905

# The code of main modules, compiled before the fork: {path: (state of the file, code)}.
_compiled: dict = {}

# What was __main__ before the parent's took its place: its globals must not be torn down.
_old_mains = []


def is_known(spawn):
    """Whether main() does what that of the stdlib's module *spawn* does."""
    return (
        frozenset(spawn._main.__code__.co_names) == _MAIN
        and frozenset(spawn.prepare.__code__.co_names) == _PREPARE
    )


def spawn_main(pipe_handle, tracker_fd):
    """The stdlib's ``spawn_main()``: run the process that the pipe brings, and exit."""

    def set_tracker(resource_tracker):
        resource_tracker._resource_tracker._fd = tracker_fd

    _std.when_loaded("resource_tracker", set_tracker)
    sys.exit(main(pipe_handle, os.dup(pipe_handle)))


def main(fd, parent_sentinel):
    """The stdlib's ``spawn._main()``: read the process from *fd*, run it, return its exit code."""
    self = receive(fd)
    child, known = _child.prepare(self)
    return child.bootstrap(self, parent_sentinel, known)


def receive(fd):
    """Read from *fd* what the parent has sent, and do what it says: the process object."""
    with open(fd, "rb") as from_parent:
        process.current_process()._inheriting = True
        try:
            _prepare(load(from_parent))
            return load(from_parent)
        finally:
            del process.current_process()._inheriting


def _prepare(data):
    current = process.current_process()
    if "name" in data:
        current.name = data["name"]
    if "authkey" in data:
        current.authkey = data["authkey"]
    if data.get("log_to_stderr"):
        _std.util.log_to_stderr()
    if "log_level" in data:
        _std.util.get_logger().setLevel(data["log_level"])
    if "sys_path" in data:
        sys.path = data["sys_path"]
    if "sys_argv" in data:
        sys.argv = data["sys_argv"]
    if "dir" in data:
        os.chdir(data["dir"])
    if "orig_dir" in data:
        process.ORIGINAL_DIR = data["orig_dir"]
    if "start_method" in data:
        _std.context._default_context.set_start_method(data["start_method"], force=True)
    if "init_main_from_name" in data:
        _fixup_main_from_name(data["init_main_from_name"])
    elif "init_main_from_path" in data:
        _fixup_main_from_path(data["init_main_from_path"])


def _fixup_main_from_name(name):
    if name != "__main__" and not name.endswith(".__main__"):
        _std.spawn._fixup_main_from_name(name)


def _fixup_main_from_path(path):
    """Make the main module the parent's, run anew under another name."""
    main_module = sys.modules["__main__"]
    if os.path.splitext(os.path.basename(path))[0] == "ipython":
        return  # whose script once had no guard
    if getattr(main_module, "__file__", None) == path:
        return
    code = _main_code(path)
    if code is None:
        _std.spawn._fixup_main_from_path(path)
        return
    _old_mains.append(main_module)
    module = ModuleType("__mp_main__")
    vars(module).update(_run(code, path))
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module


def _main_code(path):
    """The code of a main module; None if the file is not source."""
    known = _compiled.get(path)
    if known is not None and known[0] == _state(os.stat(path)):
        return known[1]
    with io.open_code(os.path.abspath(path)) as file:
        source = file.read()
    if source.startswith(MAGIC_NUMBER):
        return None
    return compile(source, path, "exec", dont_inherit=True)


def _state(stat):
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def compile_main(path, source=None):
    """Compile a main module for children that will be forked and run it, each on its own.

    *source* stands for what is in the file.
    """
    try:
        state = _state(os.stat(path))
        code = _main_code(path) if source is None else compile(source, path, "exec")
        _compiled[path] = state, code
    except Exception:
        _compiled.pop(path, None)  # the children will tell


def forget_main():
    """Forget that there was another main module; whoever calls this has put it back."""
    _old_mains.clear()


def _run(code, path):
    """What ``runpy.run_path()`` does with a script: its globals."""
    module = ModuleType("__mp_main__")
    namespace = vars(module)
    namespace.update(__file__=path, __cached__=None, __package__="")
    before = sys.modules.get("__mp_main__")
    sys.modules["__mp_main__"] = module
    argv0 = sys.argv[0]
    sys.argv[0] = path
    try:
        exec(code, namespace)
    finally:
        sys.argv[0] = argv0
        if before is not None:
            sys.modules["__mp_main__"] = before
        else:
            del sys.modules["__mp_main__"]
    return namespace.copy()
