"""Stand-in: the stdlib's queues, until the native ones take their place."""

from . import _std


class Queue(_std.queues.Queue):
    pass


class JoinableQueue(_std.queues.JoinableQueue, Queue):
    pass


class SimpleQueue(_std.queues.SimpleQueue):
    pass


_std.inherit(globals())
