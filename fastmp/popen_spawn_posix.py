"""``multiprocessing.popen_spawn_posix``: one module object with the stdlib's, under both names."""

from ._std import share

TYPE_CHECKING = False  # for type checkers, without importing typing
if TYPE_CHECKING:
    from multiprocessing.popen_spawn_posix import *  # noqa: F403

share(__name__)
