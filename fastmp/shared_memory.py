"""``multiprocessing.shared_memory``: one module object with the stdlib's, under both names."""

from typing import TYPE_CHECKING

from ._std import share

if TYPE_CHECKING:
    from multiprocessing.shared_memory import *  # noqa: F403

share(__name__)
