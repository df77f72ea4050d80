"""How each peer does the rows that it can do, in its own idiom, with its own package.

A peer with multiprocessing's interface (billiard, multiprocess) needs nothing here: it does the
rows' own ways. A module here is imported with the rows, its package only where it is measured.
"""

from .. import limits, suites  # noqa: F401 (the rows, and the limits as further sides of them)
from . import fifo, iceoryx, pools, tensors, zeromq  # noqa: F401
