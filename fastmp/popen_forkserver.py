"""``multiprocessing.popen_forkserver``: one module object with the stdlib's, under both names."""

from typing import TYPE_CHECKING

from ._std import share

if TYPE_CHECKING:
    from multiprocessing.popen_forkserver import *  # noqa: F403

share(__name__)
