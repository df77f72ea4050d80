"""``multiprocessing.util``: one module object with the stdlib's, under both names."""

from ._std import share

TYPE_CHECKING = False  # for type checkers, without importing typing
if TYPE_CHECKING:
    from multiprocessing.util import *  # noqa: F403
    from multiprocessing.util import DEBUG as DEBUG
    from multiprocessing.util import DEFAULT_LOGGING_FORMAT as DEFAULT_LOGGING_FORMAT
    from multiprocessing.util import INFO as INFO
    from multiprocessing.util import LOGGER_NAME as LOGGER_NAME
    from multiprocessing.util import MAXFD as MAXFD
    from multiprocessing.util import NOTSET as NOTSET
    from multiprocessing.util import abstract_sockets_supported as abstract_sockets_supported
    from multiprocessing.util import is_abstract_socket_namespace as is_abstract_socket_namespace
    from multiprocessing.util import spawnv_passfds as spawnv_passfds

share(__name__)
