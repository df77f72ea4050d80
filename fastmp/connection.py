"""Connections: the two ends of a ``Pipe()`` over shared memory, and the stdlib's on any descriptor.

Both ends of a Pipe hold a socket, which can be selected on, passed on and closed as ever, while the
messages go through shared memory.  A ``Connection`` made from a descriptor, by a ``Listener`` or by
``Client()`` speaks the stdlib's format, so the other side may be either package.
"""

import io

from . import _core, _std
from ._handles import for_child

_original = _std.connection


class Connection(_core.Connection, _original.Connection):
    """A connection on an arbitrary file descriptor.

    >>> Connection(handle, readable=True, writable=True)

    AttributeError or ValueError when *handle* is no descriptor's number, or neither *readable* nor
    *writable*.
    """

    # What the stdlib's methods are made of, for code that overrides or calls it.

    def _close(self):
        self.close()

    def _send_bytes(self, buf):
        self.send_bytes(buf)

    def _recv_bytes(self, maxsize=None):
        buf = io.BytesIO()
        buf.write(self.recv_bytes(maxsize))
        return buf

    def _poll(self, timeout):
        return self.poll(timeout)

    def _detach(self):
        """Give the descriptor up without closing it."""
        self._handle = None

    def __reduce__(self):
        return reduce_connection(self)


class _PipeEnd(Connection):
    """What ``Pipe()`` gives.

    A class of its own because other packages (loky) register a reducer for ``Connection`` that
    sends the descriptor alone; this one has to bring its shared memory.
    """


_PipeEnd.__name__ = _PipeEnd.__qualname__ = "Connection"


def Pipe(duplex=True):
    """
    Returns pair of connection objects at either end of a pipe
    """
    return _PipeEnd._pair(duplex)


def reduce_connection(conn):
    fd, *rings = conn._share()
    handles = [for_child(ring) if ring >= 0 else None for ring in rings]
    if not any(handles):
        handles = []
    df = _std.reduction.DupFd(fd)
    return rebuild_connection, (df, conn.readable, conn.writable, *handles)


def rebuild_connection(df, readable, writable, *rings):
    fd = df.detach()
    if not rings:
        return Connection(fd, readable, writable)
    descriptors = [-1 if ring is None else ring.detach() for ring in rings]
    return _PipeEnd._attach(fd, *descriptors, readable, writable)


_std.reduction.register(Connection, reduce_connection)
_std.reduction.register(_PipeEnd, reduce_connection)


def _adopt(conn):
    """The stdlib's connection *conn* as one of ours; *conn* is closed for its holders."""
    fd, conn._handle = conn._handle, None
    return Connection(fd, conn.readable, conn.writable)


class SocketListener(_original.SocketListener):
    def accept(self):
        return _adopt(super().accept())


def SocketClient(address):
    """
    Return a connection object connected to the socket given by `address`
    """
    return _adopt(_original.SocketClient(address))


class Listener(_original.Listener):
    """
    Returns a listener object.

    This is a wrapper for a bound socket which is 'listening' for connections.
    """

    def accept(self):
        """
        Accept a connection on the bound socket of `self`.

        Returns a `Connection` object.
        """
        return _adopt(super().accept())


def Client(address, family=None, authkey=None):
    """
    Returns a connection to the address of a `Listener`
    """
    return _adopt(_original.Client(address, family, authkey))


def wait(object_list, timeout=None):
    """
    Wait till an object in object_list is ready/readable.

    Returns list of those objects in object_list which are ready/readable.
    """
    return _core.wait(object_list, timeout)


_std.inherit(globals())
