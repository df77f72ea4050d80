"""The package's names: the functions of the default context, as in the stdlib, and fastmp's own."""

from multiprocessing import reduction as reducer
from multiprocessing.context import AuthenticationError as AuthenticationError
from multiprocessing.context import BufferTooShort as BufferTooShort
from multiprocessing.context import ProcessError as ProcessError
from multiprocessing.context import TimeoutError as TimeoutError
from multiprocessing.process import active_children as active_children
from multiprocessing.process import current_process as current_process
from multiprocessing.process import parent_process as parent_process

from . import context as context
from ._install import install as install
from .context import Process as Process
from .errors import BrokenPoolError as BrokenPoolError
from .errors import CorruptionError as CorruptionError
from .errors import PoolTerminatedError as PoolTerminatedError
from .errors import TaskCancelledError as TaskCancelledError
from .errors import TaskTimeoutError as TaskTimeoutError
from .errors import WorkerLostError as WorkerLostError

# Functions that return instances of these classes.  As in typeshed, so that programs which write
# `multiprocessing.Queue` for a type are understood.
from .queues import JoinableQueue as JoinableQueue
from .queues import Queue as Queue
from .queues import SimpleQueue as SimpleQueue

Array = context._default_context.Array
Barrier = context._default_context.Barrier
BoundedSemaphore = context._default_context.BoundedSemaphore
Condition = context._default_context.Condition
Event = context._default_context.Event
Lock = context._default_context.Lock
Manager = context._default_context.Manager
Pipe = context._default_context.Pipe
Pool = context._default_context.Pool
RLock = context._default_context.RLock
RawArray = context._default_context.RawArray
RawValue = context._default_context.RawValue
Semaphore = context._default_context.Semaphore
Value = context._default_context.Value
allow_connection_pickling = context._default_context.allow_connection_pickling
cpu_count = context._default_context.cpu_count
freeze_support = context._default_context.freeze_support
get_all_start_methods = context._default_context.get_all_start_methods
get_context = context._default_context.get_context
get_logger = context._default_context.get_logger
get_start_method = context._default_context.get_start_method
log_to_stderr = context._default_context.log_to_stderr
set_executable = context._default_context.set_executable
set_forkserver_preload = context._default_context.set_forkserver_preload
set_start_method = context._default_context.set_start_method

SUBDEBUG: int
SUBWARNING: int

__all__ = [
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BrokenPoolError",
    "BufferTooShort",
    "Condition",
    "CorruptionError",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "PoolTerminatedError",
    "Process",
    "ProcessError",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "TaskCancelledError",
    "TaskTimeoutError",
    "TimeoutError",
    "Value",
    "WorkerLostError",
    "active_children",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "install",
    "log_to_stderr",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
]
