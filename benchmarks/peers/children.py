"""The far ends of peers' channels: plain forked processes of the standard library's.

What they answer, they answer on a pipe of the standard library's, where the row's own child does.
"""

import contextlib
import multiprocessing

FORK = multiprocessing.get_context("fork")


@contextlib.contextmanager
def child(target, *args):
    process = FORK.Process(target=target, args=args, daemon=True)
    process.start()
    yield
    process.join()
