"""``multiprocessing.heap``: one module object with the stdlib's, under both names."""

from ._std import share

TYPE_CHECKING = False  # for type checkers, without importing typing
if TYPE_CHECKING:
    from multiprocessing.heap import *  # noqa: F403
    from multiprocessing.heap import Arena as Arena
    from multiprocessing.heap import Heap as Heap
    from multiprocessing.heap import rebuild_arena as rebuild_arena
    from multiprocessing.heap import reduce_arena as reduce_arena

share(__name__)
