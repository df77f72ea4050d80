"""``multiprocessing.dummy``: one module object with the stdlib's, under both names."""

import sys

from .._std import share

TYPE_CHECKING = False  # for type checkers, without importing typing
if TYPE_CHECKING:
    from multiprocessing.dummy import *  # noqa: F403
    from multiprocessing.dummy import Array as Array
    from multiprocessing.dummy import DummyProcess as DummyProcess
    from multiprocessing.dummy import Namespace as Namespace
    from multiprocessing.dummy import Value as Value
    from multiprocessing.dummy import shutdown as shutdown

share(__name__)
# The stdlib's package has imported it; without this entry its path would give a second copy.
sys.modules[__name__ + ".connection"] = sys.modules[__name__].connection
