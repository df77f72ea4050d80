"""``multiprocessing.managers``: one module object with the stdlib's, under both names."""

from ._std import share

TYPE_CHECKING = False  # for type checkers, without importing typing
if TYPE_CHECKING:
    import sys
    from multiprocessing.managers import *  # noqa: F403
    from multiprocessing.managers import BaseListProxy as BaseListProxy
    from multiprocessing.managers import DictProxy as DictProxy
    from multiprocessing.managers import ListProxy as ListProxy
    from multiprocessing.managers import Namespace as Namespace
    from multiprocessing.managers import RemoteError as RemoteError
    from multiprocessing.managers import Server as Server
    from multiprocessing.managers import SharedMemoryServer as SharedMemoryServer
    from multiprocessing.managers import ValueProxy as ValueProxy

    if sys.version_info >= (3, 14):
        from multiprocessing.managers import SetProxy as SetProxy

share(__name__)
