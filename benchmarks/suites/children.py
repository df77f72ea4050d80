"""The far end of a row: a child of the side's own, at the other end of a pipe of the side's own."""

import contextlib


@contextlib.contextmanager
def connected_child(context, target, *args):
    """A child that runs target(*args, its end), and our end; what ends it is said by the caller."""
    conn, far = context.Pipe()
    child = context.Process(target=target, args=(*args, far), daemon=True)
    child.start()
    yield conn
    child.join()
