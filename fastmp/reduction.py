"""``multiprocessing.reduction``: one module object with the stdlib's, under both names."""

from ._std import share

TYPE_CHECKING = False  # for type checkers, without importing typing
if TYPE_CHECKING:
    from multiprocessing.reduction import *  # noqa: F403
    from multiprocessing.reduction import ACKNOWLEDGE as ACKNOWLEDGE
    from multiprocessing.reduction import HAVE_SEND_HANDLE as HAVE_SEND_HANDLE
    from multiprocessing.reduction import AbstractReducer as AbstractReducer

share(__name__)
