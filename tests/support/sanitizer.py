"""What tests on a core with AddressSanitizer need.

ASan's allocator is not made for fork: a child that is forked while another thread holds the
allocator's lock hangs at its first malloc.  Python's threads run with the GIL, which whoever forks
has; but a thread that has ended gives its cache back to the allocator after it has let go of the
GIL.  So a fork waits until such threads are gone.
"""

import _thread
import os
import time

PATIENCE = 1.0  # seconds: a thread that was not made by Python may be there for good


def fork_without_ending_threads() -> None:
    """From now on, in this process and its forked children."""
    os.register_at_fork(before=_wait_for_ending_threads)


def _wait_for_ending_threads() -> None:
    deadline = time.monotonic() + PATIENCE
    while len(os.listdir("/proc/self/task")) > 1 + _thread._count():
        if time.monotonic() > deadline:
            return
        time.sleep(0.001)
