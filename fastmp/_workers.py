"""A pool's workers: their processes as the parent sees them, and what runs in them.

The tasks and results are the native board's; here is the policy.  A worker that has ended is
noticed by the thread that waits for results, which calls ``Crew.supervise()``: what the worker held
fails with ``WorkerLostError``, and a new worker takes its place.  A pool whose workers cannot even
be started is broken, and all its jobs say why.
"""

import collections
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable

from . import _core, _std
from ._handles import for_child
from ._limits import Limits
from .errors import BrokenPoolError, PoolTerminatedError, WorkerLostError

__all__ = ["Crew", "TaskBoard", "work"]

util = _std.util

# What the board says of a worker.
_STARTING, _READY, _LEAVING, _FAILED = 1, 2, 3, 4


class TaskBoard(_core.TaskBoard):
    """The native board; it can be an argument of a process that is being spawned."""

    def __reduce__(self):
        _std.context.assert_spawning(self)
        *fds, offset, size = self._share()
        return _attach, ([for_child(fd) for fd in fds], offset, size)


def _attach(handles, offset, size):
    return TaskBoard((*(handle.detach() for handle in handles), offset, size))


#
# In the worker.  All but work() are called by the native loop, for what is rare.
#


def work(board, slot, initializer, initargs, maxtasks, wrap_exception):
    """What a worker's process runs: the initializer, then the native loop."""
    board._enter(slot)
    if initializer is not None:
        try:
            initializer(*initargs)
        except BaseException as e:
            _report_start(board, slot, e)
            raise
    board._ready(slot)
    completed = board._work(slot, maxtasks, wrap_exception)
    util.debug(f"worker exiting after {completed} tasks")


def _report_start(board, slot, error):
    try:
        board._report_start(slot, with_traceback(error))
    except Exception as e:
        board._report_start(slot, encoding_error(e, error))


def call(func, both):
    """An apply() with other arguments than a tuple."""
    args, kwds = both
    return func(*args, **kwds)


def call_each(func, items):
    """A chunk of a map(): here the interpreter calls *func* faster than C can."""
    return [func(item) for item in items]


def with_traceback(error):
    return _std.pool.ExceptionWithTraceback(error, error.__traceback__)


def encoding_error(why, value):
    wrapped = _std.pool.MaybeEncodingError(why, value)
    util.debug(f"Possible encoding error while sending result: {wrapped}")
    return wrapped


def describe_exit(error):
    """How a task has ended its worker: for ``worker_left()``."""
    text = "".join(traceback.format_exception_only(type(error), error)).strip()
    code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else None
    return os.getpid(), code, text, with_traceback(error).tb


#
# In the parent
#


def describe(job, index=None):
    """What a task of a job was: the function's name and which items it was given."""
    func = job._function
    name = getattr(func, "__qualname__", None) or repr(func)
    if job._kind == 0 or index is None:
        return f"{name}()"
    first = index * job._chunksize
    if job._chunksize == 1:
        return f"{name}() on item {first}"
    return f"{name}() on items {first} to {first + job._chunksize - 1}"


def worker_left(job, index, how):
    """The result of a task that called sys.exit(), or was interrupted."""
    pid, code, text, remote = how
    task = describe(job, index)
    error = WorkerLostError(f"worker (pid {pid}) left by {text} in {task}", pid, code, task)
    error.__cause__ = _std.pool.RemoteTraceback(remote)
    return error


def _ending(exitcode):
    if exitcode is None or exitcode >= 0:
        return f"ended with exit code {exitcode}"
    try:
        return f"was killed by {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"was killed by signal {-exitcode}"


def _report():
    """Print the exception that is being handled, as when it had ended its thread."""
    threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))


class Crew:
    """The workers of one pool, and the threads that serve it while something needs them.

    Holds no reference to the pool, whose end it is told of by the pool's finalizer.
    """

    #: Seconds that workers get to end after SIGTERM, before SIGKILL.
    grace = 5.0
    #: Seconds that a worker gets to end by itself, before its place is given to another.
    farewell = 0.5

    def __init__(self, ctx, make_process, pool, size, initializer, initargs, maxtasks, wrap):
        self.board = TaskBoard(2 * size + 16)
        self.pool = pool
        self.size = size
        self._ctx = ctx
        self._make_process = make_process
        self._initializer = initializer
        self._initargs = initargs
        self._maxtasks = maxtasks
        self._wrap = wrap
        self.owner: Callable[[], object] = lambda: None  # gives the pool, while there is one
        self._at_exit = None
        self._slots = {}
        self._retired = []
        self._lock = threading.RLock()
        self._stopping = False
        self._failed_starts: float = 0  # in a row
        self._most_failures = max(3, size)
        self._last_failure = None
        self._deaths = collections.deque()
        self._server = None
        self._feeders = set()
        self._killed = set()  # workers, by cancel()
        self._limits = None
        self.board.supervise = self.supervise
        self.board.keep_serving = maxtasks is not None

    #
    # Starting and replacing workers
    #

    def repopulate(self):
        """Start workers until there are as many as there should be."""
        while len(self.pool) < self.size and not self._stopping:
            self._start_one()

    def _start_one(self):
        slot = self.board.hire()
        if slot < 0:
            raise RuntimeError("the pool was made for fewer workers")
        try:
            w = self._make_process(
                self._ctx,
                target=work,
                args=(
                    self.board,
                    slot,
                    self._initializer,
                    self._initargs,
                    self._maxtasks,
                    self._wrap,
                ),
            )
            w.name = w.name.replace("Process", "PoolWorker")
            w.daemon = True
            w.start()
        except BaseException:
            self.board.vacate(slot)
            raise
        self.pool.append(w)
        self._slots[w] = slot
        self.board.hired(slot, getattr(w, "pid", None) or 0)
        util.debug("added worker")
        if self._stopping:  # a signal's handler has terminated the pool meanwhile
            w.terminate()

    def supervise(self):
        """Bury the workers that have ended, and start others in their places.

        Called by the thread that waits for results, when a worker has said that it leaves or one
        was seen to be gone.
        """
        with self._lock:
            for w in [*self._slots]:
                if not self._stopping:
                    self._look_after(w)
            if not self._stopping:
                self._refill()

    def _look_after(self, w):
        slot = self._slots[w]
        state = self.board.worker_state(slot)
        if w.exitcode is None and state in (_LEAVING, _FAILED) and w not in self._retired:
            w.join(self.farewell)
            if w.exitcode is None:
                self.pool.remove(w)
                self._retired.append(w)
        if w.exitcode is not None:
            self._bury(w, slot, state)

    def _bury(self, w, slot, state):
        lost = self.board.bury(slot)
        if lost is NotImplemented:
            return  # another thread has results in its hands; it is asked again at its next tick
        util.debug(f"cleaning up worker {w.pid}")
        w.join()
        if w in self._retired:
            self._retired.remove(w)
        elif not self.board.dismissed:  # a closed pool keeps those who have left, as the stdlib's
            self.pool.remove(w)
        del self._slots[w]
        self.board.vacate(slot)
        if state in (_STARTING, _FAILED):
            # One that was killed from outside says less than one that failed.
            self._failed_starts += 1 if w.exitcode >= 0 else 0.1
            self._deaths.append(time.monotonic())
            self._last_failure = f"a worker {_ending(w.exitcode)} before it was ready"
        else:
            self._succeeded()
            if state == _READY and w not in self._killed:
                self._deaths.append(time.monotonic())
            self._killed.discard(w)
        if lost is not None:
            job, index = lost
            task = describe(job, index)
            self.board.fail(
                job,
                index,
                WorkerLostError(
                    f"worker {w.name} (pid {w.pid}) {_ending(w.exitcode)} in {task}",
                    w.pid,
                    w.exitcode,
                    task,
                ),
            )

    def _refill(self):
        board = self.board
        if board.dismissed or board.ended is not None:
            board.understaffed = False
            return
        if any(board.worker_state(self._slots[w]) in (_READY, _LEAVING) for w in self.pool):
            self._succeeded()
        elif self._failed_starts >= self._most_failures:
            self._break()
            return
        if len(self.pool) < self.size and not self._throttled():
            try:
                self.repopulate()
            except Exception as e:
                self._failed_starts += 1
                self._last_failure = f"a worker could not be started: {e!r}"
        board.understaffed = len(self.pool) < self.size

    def _succeeded(self):
        """A worker has become ready: what fails from now on is bad luck rather than hopeless."""
        self._failed_starts = 0
        self._most_failures = 10 * max(3, self.size)

    def _throttled(self):
        """Whether so many workers have died of late that the next has to wait for a tick."""
        while self._deaths and self._deaths[0] < time.monotonic() - 1.0:
            self._deaths.popleft()
        return len(self._deaths) > 20 * (self.size + 1)

    def _break(self):
        cause = self.board.start_error
        why = f"its initializer raised {cause!r}" if cause is not None else self._last_failure
        error = BrokenPoolError(f"the pool is broken: {why}")
        error.__cause__ = cause
        self.board.understaffed = False
        self.board.end(error)

    #
    # Ending a job early
    #

    def cancel(self, job, error):
        """Fail a call or map with *error*, and kill the workers that are at it.

        False when its results have come, or come meanwhile.
        """
        if not self.board.owned:
            return self.board.cancel(job)  # says why not
        with self._lock:
            slots = None if self._stopping else self.board.cancel(job)
            if slots is None:
                return False
            try:
                failed = self.board.fail_job(job, error)
            except BaseException:
                self.board.spare(job)
                raise
            if not failed:
                self.board.spare(job)
                return False
            doomed = [w for w, slot in self._slots.items() if slot in slots]
            for w in doomed:
                util.debug(f"killing worker {w.pid}: {error}")
                self._killed.add(w)
                w.kill()
            if self._wait_for(doomed, self.grace):
                self.supervise()
            return True

    def limit(self, job, seconds):
        """Cancel a timed call when it has run for so long."""
        with self._lock:
            if self._stopping:
                return
            if self._limits is None:
                self._limits = Limits(
                    self._lock, self.board.running, self.cancel, describe, _report
                )
            self._limits.add(job, seconds)

    #
    # Threads, while something needs them
    #

    def need_server(self):
        """See to it that callbacks are called, and results collected, without anybody waiting."""
        with self._lock:
            if self._server is None and not self._stopping:
                # Its last act, under this lock, is to take itself away from there.
                thread = threading.Thread(target=self._serve, daemon=True)
                thread.start()
                self._server = thread

    def _serve(self):
        while True:
            try:
                for job in self.board.serve():
                    self._call_back(job)
            except BaseException:
                _report()  # a result's decoding, say: its job has failed, the others go on
                time.sleep(0.05)
            with self._lock:
                if self.board.stopped or self.board.idle:
                    self._server = None
                    forgotten = self._at_exit is not None
                    break
        if forgotten:
            self._leave()

    @staticmethod
    def _call_back(job):
        callback = job._callback if job._success else job._error_callback
        error = None
        try:
            callback(job._value)
        except BaseException as e:
            # The error is the job's result, as in the stdlib from 3.16 on; and it is told, since
            # nobody may ever ask for that result.
            error = e
            if not job._success and e.__context__ is None and e is not job._value:
                e.__context__ = job._value
            _report()
        finally:
            job._end(error)

    def feed(self, job):
        """Give out the tasks of a job whose iterable may block: each such job has its thread."""
        with self._lock:
            thread = threading.Thread(target=self._feed, args=(job,), daemon=True)
            self._feeders.add(thread)
            try:
                thread.start()
            except BaseException:
                self._feeders.discard(thread)
                raise

    def _feed(self, job):
        try:
            while not self.board.feed(job):
                pass
        except BaseException as e:
            util.debug(f"a pool's iterable raised {e!r}")  # and so will next()
        finally:
            self._feeders.discard(threading.current_thread())

    #
    # The end
    #

    def close(self):
        """Let the workers go after the last job."""
        if not self.board.owned:
            return  # a child of a fork, whose pool this is not
        self.board.keep_serving = False
        self.board.close()
        if self.board.cache:
            self.need_server()

    def abandon(self):
        """Take back those who were started for a pool that cannot be made.

        Asks of a process what the stdlib asks here, and no more: a context may make its own kind.
        """
        self._stopping = True
        self.board.stop()
        for w in self.pool:
            if w.exitcode is None:
                w.terminate()
        for w in self.pool:
            w.join()
        self._forget()

    def let_go(self):
        """The pool's end: terminate(), the interpreter's exit, or nobody has the pool any more.

        In that last case its jobs are done first, as by the stdlib's pools.
        """
        if self.owner() is None and self.board.owned and self.board.unfinished:
            try:
                self._finish_alone()
                return
            except Exception as e:  # no thread can be started
                util.debug(f"a forgotten pool ends at once: {e}")
        self.terminate()

    def _finish_alone(self):
        util.debug("a pool was forgotten that has work to do")
        with self._lock:
            self.need_server()
            self._at_exit = util.Finalize(None, self.terminate, exitpriority=15)
            self.board.keep_serving = False
            self.board.close_later()

    def _leave(self):
        """A forgotten pool's jobs are done, and its workers have been told to leave."""
        workers = [*self.pool, *self._retired]
        if self._wait_for(workers, self.grace):
            self._forget()
        else:
            self.terminate()
        self._at_exit.cancel()

    def join(self):
        """Wait for the jobs, the threads and the workers."""
        self.board.wait_drained()
        for thread in self._threads():
            thread.join()
        for w in [*self.pool, *self._retired]:
            w.join()
        self._forget()

    def _threads(self):
        watcher = None if self._limits is None else self._limits.end()
        threads = {self._server, watcher, *self._feeders}
        return threads - {None, threading.current_thread()}

    def _forget(self):
        """Undo the circles through the crew, so that the shared memory goes with its last user."""
        self.board.supervise = None
        self._limits = None

    def terminate(self):
        """End all workers, whatever they are doing, and fail what has not been done.

        Takes no lock that a worker can hold, and ends in any case: what does not go by SIGTERM is
        killed.
        """
        if not self.board.owned:
            return  # a child of a fork, which only inherited all this
        util.debug("terminating pool")
        self._stopping = True
        self.board.stop()
        locked = self._lock.acquire(timeout=self.grace)  # nobody starts a worker meanwhile
        try:
            workers = [*self.pool, *self._retired]
            self._end_processes(workers)
            if all(w.exitcode is not None for w in workers):
                self.board.drain()
            self.board.end(PoolTerminatedError("the pool was terminated before the result came"))
        finally:
            if locked:
                self._lock.release()
        deadline = time.monotonic() + self.grace
        for thread in self._threads():
            thread.join(max(0.0, deadline - time.monotonic()))
        self._forget()

    def _end_processes(self, workers):
        util.debug("terminating workers")
        for w in workers:
            if w.exitcode is None:
                w.terminate()
                self._send(w, signal.SIGCONT)  # a stopped process gets to see the SIGTERM
        if not self._wait_for(workers, self.grace):
            for w in workers:
                if w.exitcode is None:
                    util.debug(f"killing worker {w.pid}")
                    w.kill()
            self._wait_for(workers, self.grace)

    @staticmethod
    def _send(w, signum):
        try:
            os.kill(w.pid, signum)
        except (ProcessLookupError, AttributeError, TypeError):
            pass  # gone, or no real process

    @staticmethod
    def _wait_for(workers, seconds):
        deadline = time.monotonic() + seconds
        for w in workers:
            w.join(max(0.0, deadline - time.monotonic()))
        return all(w.exitcode is not None for w in workers)
