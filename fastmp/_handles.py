"""What is pickled for a process that is being spawned, and the descriptors that go with it."""

import io

from . import _std

__all__ = ["check_start_method", "for_child", "pickle_process"]


def pickle_process(popen, process_obj):
    """What the child reads first: two pickles, of its preparation and of itself; a buffer.

    Descriptors that these need are added to ``popen._fds``.
    """
    file = io.BytesIO()
    _std.context.set_spawning_popen(popen)
    try:
        _std.reduction.dump(_std.spawn.get_preparation_data(process_obj._name), file)
        _std.reduction.dump(process_obj, file)
    finally:
        _std.context.set_spawning_popen(None)
    return file.getbuffer()


def for_child(fd):
    """A picklable stand-in for *fd*, whose ``detach()`` gives the descriptor in the child.

    A spawning Popen takes each descriptor once, however many objects lie in the memory behind it;
    without one, ``reduction.DupFd`` sends it through the resource sharer.
    """
    popen = _std.context.get_spawning_popen()
    passed = getattr(popen, "_fds", ())
    if fd in passed:
        if popen.method == "spawn":
            return popen.DupFd(fd)
        if popen.method == "forkserver":
            return popen.DupFd(passed.index(fd))
    return _std.reduction.DupFd(fd)


def check_start_method(obj, is_fork_context):
    """Raise the stdlib's RuntimeError unless *obj* may be pickled here and now."""
    _std.context.assert_spawning(obj)
    if is_fork_context:
        raise RuntimeError(
            "A SemLock created in a fork context is being shared with a process in a spawn "
            "context. This is not supported. Please use the same context to create "
            "multiprocessing objects and Process."
        )
