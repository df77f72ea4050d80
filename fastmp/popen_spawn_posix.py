"""``multiprocessing.popen_spawn_posix``: one module object with the stdlib's, under both names."""

from typing import TYPE_CHECKING

from ._std import share

if TYPE_CHECKING:
    from multiprocessing.popen_spawn_posix import *  # noqa: F403

share(__name__)
