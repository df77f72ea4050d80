"""``multiprocessing.spawn``: one module object with the stdlib's, under both names."""

from ._std import share

TYPE_CHECKING = False  # for type checkers, without importing typing
if TYPE_CHECKING:
    from multiprocessing.spawn import *  # noqa: F403
    from multiprocessing.spawn import WINEXE as WINEXE
    from multiprocessing.spawn import WINSERVICE as WINSERVICE
    from multiprocessing.spawn import is_forking as is_forking
    from multiprocessing.spawn import old_main_modules as old_main_modules
    from multiprocessing.spawn import prepare as prepare
    from multiprocessing.spawn import spawn_main as spawn_main

share(__name__)
