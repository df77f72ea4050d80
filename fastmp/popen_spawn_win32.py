"""``multiprocessing.popen_spawn_win32``: one module object with the stdlib's, under both names."""

from typing import TYPE_CHECKING

from ._std import share

if TYPE_CHECKING:
    from multiprocessing.popen_spawn_win32 import *  # noqa: F403

share(__name__)
