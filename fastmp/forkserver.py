"""``multiprocessing.forkserver``: one module object with the stdlib's, under both names."""

from ._std import share

TYPE_CHECKING = False  # for type checkers, without importing typing
if TYPE_CHECKING:
    from multiprocessing.forkserver import *  # noqa: F403
    from multiprocessing.forkserver import MAXFDS_TO_SEND as MAXFDS_TO_SEND
    from multiprocessing.forkserver import SIGNED_STRUCT as SIGNED_STRUCT
    from multiprocessing.forkserver import ForkServer as ForkServer
    from multiprocessing.forkserver import main as main
    from multiprocessing.forkserver import read_signed as read_signed
    from multiprocessing.forkserver import write_signed as write_signed

share(__name__)
