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


def _work_when_told(work, *args):
    *args, conn = args
    while (n := conn.recv()) is not None:
        conn.send(work(*args, n))


@contextlib.contextmanager
def working_child(context, work, *args):
    """A child that is sent n, calls work(*args, n) and sends what that returns, and our end."""
    with connected_child(context, _work_when_told, work, *args) as conn:
        yield conn
        conn.send(None)
