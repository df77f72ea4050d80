"""``multiprocessing.popen_fork``: one module object with the stdlib's, under both names."""

from ._std import share

TYPE_CHECKING = False  # for type checkers, without importing typing
if TYPE_CHECKING:
    from multiprocessing.popen_fork import *  # noqa: F403

share(__name__)
