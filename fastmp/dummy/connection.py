"""``multiprocessing.dummy.connection``: the stdlib's.

``fastmp.dummy`` puts it in this name's place, so this file is what tools see; it is not executed.
"""

from multiprocessing.dummy.connection import *  # noqa: F403
from multiprocessing.dummy.connection import Connection as Connection
from multiprocessing.dummy.connection import families as families
