"""The limits of the machine, as sides of the rows that cannot do better: limits.c and ring.c.

They are compiled when first needed, into build/benchmarks, together with the floors of fastmp that
know no Python, whose ring shows what is left to the interpreter.
"""

import array
import fcntl
import glob
import importlib.machinery
import importlib.util
import os
import pickle
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

from .rows import expect, timed, times, way
from .suites.channels import BATCH, MANY, TRIPS
from .suites.large import NAMES, size_for
from .suites.locks import acquire_and_release, enter_and_exit
from .suites.processes import EXIT_CODE
from .suites.values import COPIED, COPIED_ANEW, INDICES, LARGE, LENGTH, SMALL, add, load, store

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("base", "platform", "sync", "arena", "channel")
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared", "-pthread"]


TARGET = ROOT / "build/benchmarks" / f"limits{importlib.machinery.EXTENSION_SUFFIXES[0]}"


def build():
    """Compile the module, unless what is there is newer than all that it is made of."""
    sources = glob.glob(str(ROOT / "benchmarks/*.c"))
    for floor in FLOORS:
        sources += glob.glob(str(ROOT / f"csrc/{floor}/*.c"))
    headers = [
        str(path) for folder in ("benchmarks", "csrc") for path in (ROOT / folder).rglob("*.h")
    ]
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    with open(TARGET.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_newer(TARGET, [*sources, *headers, __file__]):
            _compile(sources)


def library():
    """The module, which has been built."""
    spec = importlib.util.spec_from_file_location("limits", TARGET)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _is_newer(target, needs):
    made = target.stat().st_mtime if target.exists() else 0
    return all(os.stat(name).st_mtime < made for name in needs)


def _compile(sources):
    include = [f"-I{sysconfig.get_path('include')}", f"-I{ROOT / 'csrc'}"]
    command = [os.environ.get("CC", "gcc"), *FLAGS, *include, *sources, "-o", str(TARGET)]
    outcome = subprocess.run(command, capture_output=True, text=True)
    if outcome.returncode != 0:
        TARGET.unlink(missing_ok=True)
        raise RuntimeError(f"{command[0]} does not compile the limits:\n{outcome.stderr}")


def _limit(row, name, seconds):
    """A limit that is nothing but a function: seconds(library, n)."""

    def opened(side):
        limits = library()
        yield lambda n: seconds(limits, n)

    way(row, f"limit: {name}")(opened)


#
# Locks and values
#


def _empty_calls_and_cas(limits, n):
    seconds, _ = timed(acquire_and_release, limits.Empty(), n)
    return seconds + limits.cas_pairs(n)


_limit("Lock: acquire, release", "2 empty C calls, 1 CAS pair", _empty_calls_and_cas)
_limit("Lock: acquire, release", "1 CAS pair", lambda limits, n: limits.cas_pairs(n))
_limit(
    "Lock: with",
    "2 empty C methods",
    lambda limits, n: timed(enter_and_exit, limits.Empty(), n)[0],
)


def _field_added_to(limits, n):
    field = limits.Field()
    seconds, _ = timed(add, field, n)
    expect(field.value, n)
    return seconds


def _field_stored_to(limits, n):
    field = limits.Field()
    seconds, _ = timed(store, field, n)
    expect([field[i] for i in INDICES[:n]], INDICES[:n])
    return seconds


_limit("Value('i'): .value += 1", "an int in a C struct", _field_added_to)
_limit("Array('i'): arr[i] = x", "an int in a C struct", _field_stored_to)


def _to_list(numbers, n):
    """A slice of an Array is a list, so that is what array.array is asked for, too."""
    for _ in times(n):
        answer = numbers.tolist()
    return answer


def _array_array(loop, check, contents=SMALL):
    def opened(side):
        numbers = array.array("i", contents)

        def sample(n):
            seconds, answer = timed(loop, numbers, n)
            check(numbers, answer, n)
            return seconds

        yield sample

    return opened


way("Array('i'): arr[i] = x", "limit: array.array")(
    _array_array(store, lambda numbers, _, n: expect(numbers[:n].tolist(), INDICES[:n]))
)
way("Array('i'): arr[i]", "limit: array.array")(
    _array_array(load, lambda numbers, answer, n: expect(answer, (n - 1) % LENGTH))
)
for _name, _contents in {**COPIED, COPIED_ANEW: LARGE}.items():
    way(_name, "limit: array.array")(
        _array_array(
            _to_list,
            lambda numbers, answer, n, wanted=_contents: expect(answer, list(wanted)),
            _contents,
        )
    )


_limit(
    COPIED_ANEW,
    "a list of new ints",
    lambda limits, n: limits.int_lists(LARGE[0], LENGTH, n),
)


#
# Messages
#


def _pickled(limits, n):
    def loop():
        for number in range(n):
            answer = pickle.loads(pickle.dumps(number, 5))
        return answer

    seconds, answer = timed(loop)
    expect(answer, n - 1)
    return seconds


def _pickled_in_batches(limits, n):
    """What put_many and get_many would take, did they pickle a batch at a time."""

    def loop():
        right = 0
        for start in range(0, n, BATCH):
            batch = list(range(start, min(n, start + BATCH)))
            right += len(pickle.loads(pickle.dumps(batch, 5)))
        return right

    seconds, right = timed(loop)
    expect(right, n)
    return seconds


for _kind in ("Queue", "SimpleQueue"):
    _name = f"{_kind}: ints, one producer to one consumer"
    _limit(_name, "pickle.dumps, loads of the int", _pickled)
    _limit(_name, "C ring, one way", lambda limits, n: limits.ring_messages(n))
_limit(MANY, "pickle of the batch", _pickled_in_batches)

for _name in TRIPS:
    _limit(_name, "cache line, both spin", lambda limits, n: limits.line_round_trips(n))
    _limit(_name, "C ring, both spin", lambda limits, n: limits.ring_round_trips(n, True))
    _limit(_name, "C ring, both sleep", lambda limits, n: limits.ring_round_trips(n, False))
    _limit(_name, "futex", lambda limits, n: limits.futex_round_trips(n))
    _limit(_name, "pipe", lambda limits, n: limits.pipe_round_trips(n))


def _on_one_cpu(name, seconds):
    def opened(side):
        limits = library()
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        yield lambda n: seconds(limits, n)

    way("Queue: round trip, on one CPU", f"limit: {name}")(opened)


_on_one_cpu("C ring, both sleep", lambda limits, n: limits.ring_round_trips(n, False))
_on_one_cpu("futex", lambda limits, n: limits.futex_round_trips(n))
_on_one_cpu("pipe", lambda limits, n: limits.pipe_round_trips(n))


def _copying(name, fresh):
    def opened(side):
        limits = library()
        data = os.urandom(1 << 16) * (size_for(side) >> 16)
        yield lambda n: limits.copies(data, n, fresh)

    for row_name in NAMES:
        way(row_name, f"limit: {name}")(opened)


_copying("memcpy, warm shared pages", False)
_copying("memcpy, fresh shared pages", True)


#
# Processes
#

_limit(
    "Process: start, join (fork)", "fork, _exit, waitpid in C", lambda limits, n: limits.forks(n)
)


def _os_forks(limits, n):
    def loop():
        codes = set()
        for _ in range(n):
            pid = os.fork()
            if pid == 0:
                os._exit(EXIT_CODE)
            codes.add(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        return codes

    seconds, codes = timed(loop)
    expect(codes, {EXIT_CODE})
    return seconds


_limit("Process: start, join (fork)", "os.fork, os._exit, waitpid", _os_forks)


def _interpreters(program):
    def seconds(limits, n):
        def loop():
            codes = set()
            for _ in range(n):
                pid = os.posix_spawn(sys.executable, [sys.executable, "-c", program], os.environ)
                codes.add(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            return codes

        taken, codes = timed(loop)
        expect(codes, {0})
        return taken

    name = program if " " not in program else f"'{program}'"
    _limit("Process: start, join (spawn)", f"python -c {name}", seconds)


_interpreters("pass")
_interpreters("import threading, pickle")  # what a process object stands on, and comes in

BARE_SERVER = """\
import os, socket, sys
sock = socket.socket(fileno=int(sys.argv[1]))
while sock.recv(1):
    pid = os.fork()
    if pid == 0:
        os._exit(int(sys.argv[2]))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    sock.send(bytes([status]))
"""


@way("Process: start, join (forkserver)", "limit: fork from a bare server")
def bare_server(side):
    """A process that has imported next to nothing forks when it is told to, and tells the end."""
    sock, far = socket.socketpair()
    arguments = [sys.executable, "-c", BARE_SERVER, str(far.fileno()), str(EXIT_CODE)]
    with subprocess.Popen(arguments, pass_fds=[far.fileno()]):
        far.close()

        def loop(n):
            codes = set()
            for _ in range(n):
                sock.send(b"x")
                codes.add(sock.recv(1)[0])
            return codes

        def sample(n):
            seconds, codes = timed(loop, n)
            expect(codes, {EXIT_CODE})
            return seconds

        yield sample
        sock.close()
