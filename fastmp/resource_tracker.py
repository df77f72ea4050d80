"""``multiprocessing.resource_tracker``: one module object with the stdlib's, under both names."""

from ._std import share

TYPE_CHECKING = False  # for type checkers, without importing typing
if TYPE_CHECKING:
    from multiprocessing.resource_tracker import *  # noqa: F403
    from multiprocessing.resource_tracker import ResourceTracker as ResourceTracker
    from multiprocessing.resource_tracker import getfd as getfd
    from multiprocessing.resource_tracker import main as main

share(__name__)
