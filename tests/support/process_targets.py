"""What the children of tests/test_process*.py run: importable without pytest, and quick."""

import os
import signal
import sys
import threading
import time

import fastmp


def nothing():
    pass


def exit_with(code):
    sys.exit(code)


def leave(code):
    os._exit(code)


def fail():
    raise ValueError("a failure")


def kill_myself(signum):
    signal.signal(signum, signal.SIG_DFL) if signum != signal.SIGKILL else None
    os.kill(os.getpid(), signum)
    time.sleep(60)


def sleep_then_exit(seconds, code):
    time.sleep(seconds)
    sys.exit(code)


def wait_for_eof(conn):
    """Live until the other end of the pipe is closed."""
    try:
        conn.recv_bytes()
    except EOFError:
        pass


def wait_for_eof_alone(conn, other_end):
    """The same in a forked child, which has inherited the other end."""
    other_end.close()
    wait_for_eof(conn)


def exit_leaving_a_grandchild(ready):
    """End at once; a raw grandchild lives on, with every descriptor this process inherited."""
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    ready.send(pid)
    ready.close()
    os._exit(4)


def parent_of_watcher(method, out):
    """Have a child that watches this process, and a later one that holds what this one holds."""
    ctx = fastmp.get_context(method)
    watcher = ctx.Process(target=watch_parent, args=(out,))
    watcher.start()
    sibling = ctx.Process(target=time.sleep, args=(60,))
    sibling.start()
    out.send(("sibling", sibling.pid))
    time.sleep(60)


def watch_parent(out):
    parent = fastmp.parent_process()
    out.send(("watching", os.getpid(), parent.is_alive(), parent.pid))
    parent.join(0.05)
    out.send(("timed out", parent.is_alive()))
    parent.join(20)
    out.send(("over", parent.is_alive()))


def describe_myself(out):
    me = fastmp.current_process()
    parent = fastmp.parent_process()
    out.send(
        {
            "pid": me.pid == os.getpid(),
            "name": me.name,
            "daemon": me.daemon,
            "authkey": bytes(me.authkey),
            "children": fastmp.active_children(),
            "parent": (parent.pid, parent.name, parent.is_alive()),
            "main thread": threading.main_thread().native_id == threading.get_native_id(),
            "stdin": sys.stdin.read(),
        }
    )


def say_and_sleep(out):
    out.send("ready")
    for _ in range(600):  # a signal just before a sleep is noticed only after it
        time.sleep(0.1)
