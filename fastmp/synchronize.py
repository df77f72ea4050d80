"""Stand-in: the stdlib's locks, until the native ones take their place."""

from . import _std


class Semaphore(_std.synchronize.Semaphore):
    pass


class BoundedSemaphore(_std.synchronize.BoundedSemaphore):
    pass


class Lock(_std.synchronize.Lock):
    pass


class RLock(_std.synchronize.RLock):
    pass


class Condition(_std.synchronize.Condition):
    pass


class Event(_std.synchronize.Event):
    pass


class Barrier(_std.synchronize.Barrier):
    pass


_std.inherit(globals())
