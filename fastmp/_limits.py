"""Time limits of a pool's calls: a thread that sleeps until the next of them may be over.

A limit begins when a worker takes the call, of which the parent is not told: the worker writes down
when, and the thread looks.  A call that has not begun cannot be over before its whole limit has
passed once more, so nothing has to be looked at in between.
"""

import queue
import threading
import weakref

from .errors import TaskTimeoutError

__all__ = ["Limits"]

# Seconds between two looks: a limit of 0 must not keep a processor busy, and none is too long to
# be slept for.
_SHORTEST, _LONGEST = 0.002, 3600.0


class Limits:
    """The limits of one pool's calls.  The methods but ``end()`` are called with *lock* held.

    *running(job)* says for how many seconds a call has been running, or None; *expire(job, error)*
    ends one; *report()* is told of an exception that is nobody's.
    """

    def __init__(self, lock, running, expire, describe, report):
        self._lock = lock
        self._running = running
        self._expire = expire
        self._describe = describe
        self._report = report
        self._news = queue.SimpleQueue()  # (weak reference to a call, seconds), or None: end
        self._thread = None

    def add(self, job, seconds):
        """Limit a call that was made with ``timed``."""
        self._news.put((weakref.ref(job), seconds))
        if self._thread is None:
            thread = threading.Thread(target=self._watch, daemon=True)
            thread.start()
            self._thread = thread

    def end(self):
        """Forget all limits.  Returns the thread, which is about to end, or None."""
        self._news.put(None)
        return self._thread

    def _watch(self):
        limits = {}  # this thread's own
        pause = 0.0
        while True:
            try:
                news = self._news.get(timeout=pause)
            except queue.Empty:
                pause = self._look(limits)
                with self._lock:
                    if not limits and self._news.empty():
                        self._thread = None
                        return
                continue
            if news is None:
                return
            limits[news[0]] = news[1]
            pause = 0.0  # but first what else is new

    def _look(self, limits):
        """Ends what is over; returns the seconds until the next look."""
        pause = _LONGEST
        for reference, seconds in [*limits.items()]:
            left = self._left(reference(), seconds)
            if left is None:
                del limits[reference]
            else:
                pause = min(pause, left)
        return max(pause, _SHORTEST)

    def _left(self, job, seconds):
        """The seconds that a call may still run; None when it has ended, or does now."""
        try:
            if job is None or job.ready():
                return None
            running = self._running(job)
            if running is None:
                return seconds
            if running < seconds:
                return seconds - running
            task = self._describe(job)
            self._expire(job, TaskTimeoutError(f"{task} ran over {seconds} s", seconds, task))
        except BaseException:
            self._report()  # of some result's decoding, say
            return _SHORTEST
        return None
