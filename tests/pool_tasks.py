"""What the pools of the tests call; a module that a spawned worker imports quickly."""

import os
import signal
import sys
import threading
import time


def square(x):
    return x * x


def add(a, b=0, *, c=0):
    return a + b + c


def fail(x):
    raise ValueError(f"no {x}")


def fail_if_odd(x):
    if x % 2:
        raise ValueError(f"no {x}")
    return x


def identity(x):
    return x


def nap(seconds):
    time.sleep(seconds)
    return seconds


def pid(_=None):
    return os.getpid()


class Adder:
    """A callable with state."""

    def __init__(self, n):
        self.n = n
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return x + self.n, self.calls


def make_lambda(_=None):
    return lambda: 42


class Unpicklable(Exception):
    def __init__(self):
        super().__init__(threading.Lock())


class NotToBeUnpickled(Exception):
    def __init__(self, one, two):
        super().__init__("one argument")


def raise_unpicklable():
    raise Unpicklable


def raise_not_to_be_unpickled():
    raise NotToBeUnpickled(1, 2)


class BadState:
    def __setstate__(self, state):
        raise KeyError("bad state")

    def __getstate__(self):
        return 1


def make_bad_state():
    return BadState()


def size_and_sum(data):
    return len(data), sum(data[:10])


def meet(task):
    """Whether two of these tasks, (folder, index, data), run at once: each waits for the other."""
    folder, index, _ = task
    open(os.path.join(folder, str(index)), "w").close()
    deadline = time.monotonic() + 40
    while len(os.listdir(folder)) < 2:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


#
# Tasks that end their worker
#


def die(how):
    if how == "exit":
        os._exit(3)
    if how == "nothing":
        return pid()
    os.kill(os.getpid(), how)
    time.sleep(60)


def leave(how):
    if how == "interrupt":
        raise KeyboardInterrupt
    sys.exit(how)


def segfault():
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)  # neither faulthandler's nor ASan's handler
    os.kill(os.getpid(), signal.SIGSEGV)


#
# Initializers
#

started = []


def remember(*args):
    started.append(args)


def recall(_=None):
    return list(started)


def fail_to_start(path, message):
    with open(path, "a") as file:
        file.write("x")
    raise OSError(message)


def fail_once(path):
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    raise OSError("once")


def ignore_sigterm():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class Whole(int):
    """A number that must stay of its class."""


_shared = ["a list", "a string of some length"]
_lasting = []


def shared_list(_):
    return _shared


def shared_text(_):
    return _shared[1]


def fresh_text(x):
    return f"text {x}"


def whole(x):
    return Whole(x)


def is_the_last(x):
    """Is this the object that the call before was given?"""
    _lasting.append(x)
    return len(_lasting) > 1 and _lasting[-2] is x


def mixed(x):
    """Plain results, and from the eighth on one after another that is not."""
    values = [x, float(x), None, True, False, f"{x}", b"%d" % x, 1 << 70, [x], {x: x}, Whole(x), x]
    return values[x % len(values)]


def lock_at_seven(x):
    return threading.Lock() if x == 7 else x


def caller(_):
    """The name of the function that has called this one."""
    return sys._getframe(1).f_code.co_name


def next_one(x):
    return x + 1


kept = []


def keep_some(x):
    """Keeps two of three arguments, each in a way of its own; are they all as they were?"""
    if x % 3 == 1:
        kept.append((x, str(x)))
    elif x % 3 == 2:
        kept.append(((lambda: x)(), str(x)))
    return all(str(number) == text for number, text in kept)


def forget():
    kept.clear()


def items_of_the_loop(x):
    """Keeps the loop's iterator; what is left in the one of an earlier chunk."""
    items = sys._getframe(1).f_locals["items"]
    if kept and kept[0] is items:
        return None
    left = [list(earlier) for earlier in kept]
    kept[:] = [items]
    return left


def take_another(x):
    """Takes an item from under the loop."""
    return x, next(sys._getframe(1).f_locals["items"])
