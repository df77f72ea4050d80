"""A program that prints what idle objects cost: python -m benchmarks.footprint fastmp fork Lock 9.

It makes and uses one, so that what is imported and allocated once does not count, then so many,
and prints [[resident, shared], whether they work]: what its processes have more than before.
*Resident* is private memory (Pss without shared memory), *shared* what lies in memfds and in
/dev/shm, whoever maps it. A pool is counted with its workers. What the kernel keeps for it (pipes,
descriptors) is not seen.
"""

import importlib
import json
import os
import re
import sys

PROCESSES = 2
SHARED = re.compile(r"^(/dev/shm/|/memfd:|/dev/zero)")


def _mappings(pid):
    """The memory files that a process maps: {(device, inode): bytes that it has touched}."""
    found, inode = {}, None
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as lines:
        for line in lines:
            first, *rest = line.split(maxsplit=5)
            if not first.endswith(":"):
                path = rest[-1] if len(rest) == 5 else ""
                inode = (rest[2], int(rest[3])) if SHARED.match(path) else None
            elif inode is not None and first == "Rss:":
                found[inode] = found.get(inode, 0) + int(rest[0]) * 1024
    return found


def _open_files(pid):
    """Those that it has open, mapped or not: {(device, inode): bytes that they take}."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{name}"
        try:
            if SHARED.match(os.readlink(path)):
                stat = os.stat(path)
                device = f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}"
                found[device, stat.st_ino] = stat.st_blocks * 512
        except FileNotFoundError:  # the folder's own descriptor
            pass
    return found


def _private(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as lines:
        figures = {line.split()[0]: line.split()[1] for line in lines}
    return sum(int(figures.get(key, 0)) * 1024 for key in ("Pss_Anon:", "Pss_File:"))


def _children():
    pid = os.getpid()
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [pid, *map(int, file.read().split())]


def usage():
    """(resident, shared) of this process and its children, in bytes."""
    shared = {}
    for pid in _children():
        for files in (_mappings(pid), _open_files(pid)):
            for inode, size in files.items():
                shared[inode] = max(shared.get(inode, 0), size)
    return sum(map(_private, _children())), sum(shared.values())


def _make(context, kind):
    return context.Pool(PROCESSES) if kind == "Pool" else getattr(context, kind)()


def _in_use(things, kind):
    """Use each once, as it will have been when it lies idle: whether it did what it is for."""
    if kind == "Lock":
        return all(lock.acquire(False) and lock.release() is None for lock in things)
    if kind == "Queue":
        for number, queue in enumerate(things):
            queue.put(number)
        return [queue.get() for queue in things] == list(range(len(things)))
    return all(pool.map(abs, [-1, -2]) == [1, 2] for pool in things)


def main(module, method, kind, count):
    """In the fresh interpreter: print how much more there is after than before."""
    context = importlib.import_module(module).get_context(method)
    first = [_make(context, kind)]  # imports what it needs, allocates what there is once
    _in_use(first, kind)
    if kind == "Pool":
        first[0].terminate()
        first[0].join()
    before = usage()
    things = [_make(context, kind) for _ in range(count)]
    right = _in_use(things, kind)
    after = usage()
    difference = [more - less for more, less in zip(after, before, strict=True)]
    print(json.dumps([difference, right]), flush=True)
    if kind == "Pool":
        for pool in things:
            pool.terminate()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
