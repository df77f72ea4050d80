"""The connections between a manager's server and its proxies: shared memory where both can.

``managers`` is the stdlib's module.  What it makes connections with is replaced in its table by the
two below, for every manager of this process: they speak the stdlib's format until both sides have
turned out to be fastmp on one machine, so either side may be the stdlib's.
"""

from .connection import Client, Listener

__all__ = ["RingClient", "RingListener", "link"]


class RingListener(Listener):
    """A Listener whose connections go over to shared memory when the client offers it."""

    def accept(self):
        """Accept a connection on the bound socket of `self`."""
        conn = super().accept()
        conn._accept_rings()
        return conn


def RingClient(address, family=None, authkey=None):
    """A Client that offers shared memory; to any other than a RingListener it is as Client()."""
    conn = Client(address, family, authkey)
    conn._offer_rings()
    return conn


def link(managers):
    """Have the module *managers* make its connections here."""
    managers.listener_client["pickle"] = RingListener, RingClient
