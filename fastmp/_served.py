"""What the fork server loads and changes before it serves, so that its children need not.

The server is the stdlib's, and what it does is the same for the children of both packages.
"""

from . import (  # noqa: F401  (most children need them)
    _child,
    _core,
    _started,
    _workers,
    connection,
    queues,
    spawn,
    synchronize,
)

__all__ = ["begin"]


def begin(main_path):
    """Make the server's children fast ones; *main_path* is the main module that they will run."""
    if _started.is_known(spawn):
        spawn._main = _started.main
        _child.prepare()
        if main_path is not None:
            _started.compile_main(main_path)
