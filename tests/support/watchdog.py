"""The watchdog: a test that hangs is ended, its processes are killed, and that test fails.

pytest-timeout does not do: its signal method needs the main thread to come back to the
interpreter, its thread method needs the GIL and ends the whole run, and neither touches the
children. The watchdog is a process of its own, so nothing that a test does can stop it. When a
test's time is over it

1. writes down the test's process family, and makes each Python in it dump its stacks;
2. kills the family, which ends most hangs: the test goes on, and fails;
3. else, after 2 s, has an exception raised in the test, again every 5 s (a teardown may hang too);
4. else, after 20 s more, kills the test process itself: xdist reports the test as crashed.

If the test process itself is killed, the watchdog kills what is left of its family.

This module is both sides: `Watchdog` is the pytest plugin, `main` is the process.
"""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time

if __name__ == "__main__":  # the process, started with -S: no site-packages, no package
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import procs
else:
    from . import census, procs

STACKS_SIGNAL = signal.SIGRTMAX - 1  # faulthandler dumps all threads, with or without the GIL
RAISE_SIGNAL = signal.SIGRTMAX - 2  # raises in the main thread
PYTEST_FRAME = re.compile(r'File ".*(/_pytest/|/pluggy/|/pytest/|/xdist/|/execnet/|<frozen )')
KILL_GRACE = 2.0
GIVE_UP = float(os.environ.get("FASTMP_WATCHDOG_GIVE_UP", "20"))
RAISE_EVERY = min(5.0, GIVE_UP)


class Watchdog:
    """The test process's side; one per xdist worker."""

    def __init__(self, directory, default_seconds):
        import faulthandler

        self.directory = directory
        self.default_seconds = default_seconds
        self.armed = None  # the node id, while a test runs
        self.count = 0
        self.report_path = None
        # Opened for appending: forked children inherit it and dump into the same file.
        self.stacks_path = os.path.join(directory, f"stacks-{os.getpid()}.txt")
        self.stacks = open(self.stacks_path, "a")  # noqa: SIM115
        faulthandler.register(STACKS_SIGNAL, file=self.stacks, all_threads=True)
        signal.signal(RAISE_SIGNAL, self._raise)
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-E", __file__, str(os.getpid()), self.stacks_path],
            stdin=subprocess.PIPE,
        )

    def _raise(self, signum, frame):
        if self.armed is not None:
            import pytest

            raise pytest.fail.Exception(f"watchdog: {self.armed} ran too long")

    def _send(self, **message):
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def arm(self, test, seconds=None):
        self.count += 1
        self.report_path = os.path.join(self.directory, f"{os.getpid()}-{self.count}.txt")
        self.armed = test
        self._send(
            arm=self.default_seconds if seconds is None else seconds,
            test=test,
            # What the fork server has forked ahead may become the test's.
            keep=list(procs.family(os.getpid()).keys() - census.spares()),
            report=self.report_path,
        )

    def disarm(self):
        self.armed = None
        self._send(arm=None)

    def report(self):
        """What the watchdog wrote about the test that is running, or None if it did not fire."""
        try:
            with open(self.report_path, errors="replace") as file:
                text = file.read()
        except FileNotFoundError:
            return None
        os.unlink(self.report_path)
        return text

    def close(self):
        self._send(arm="never again")
        self.process.stdin.close()
        self.process.wait()
        self.stacks.close()
        if os.path.getsize(self.stacks_path) == 0:
            os.unlink(self.stacks_path)


class _Guard:
    """The watchdog process's side: one test at a time, and what has been done about it."""

    def __init__(self, parent, alive, stacks_path):
        self.parent = parent
        self.alive = alive  # a pidfd
        self.stacks_path = stacks_path
        self.test = None
        self.keep = set()
        self.next_step = None  # (monotonic time, function)

    def arm(self, message):
        if message["arm"] is None:
            self.next_step = None
            return
        self.test = message["test"]
        self.seconds = message["arm"]
        self.keep = {*message["keep"], os.getpid()}
        self.report_path = message["report"]
        self._after(self.seconds, self.kill_family)

    def _after(self, seconds, step):
        self.next_step = time.monotonic() + seconds, step

    def members(self):
        """The test's processes. Resource trackers cannot hang and leave with their users."""
        return {
            pid: proc
            for pid, proc in procs.family(self.parent).items()
            if pid not in self.keep and not procs.is_tracker(pid)
        }

    def kill_family(self):
        family = self.members()
        family = dict(sorted(family.items(), key=lambda item: item[1].start))
        parent = procs.read(self.parent)
        lines = [f"watchdog: {self.test} was ended after {self.seconds:g} s. Its processes:"]
        for proc in filter(None, [parent, *family.values()]):
            lines.append("  " + procs.describe(proc))
        lines.append(self.stacks([parent, *family.values()] if parent else []))
        lines.append("(Stacks of spawned processes, if any, are in the captured stderr.)")
        # The report appears whole: the test process may look for it at any moment.
        with open(self.report_path + ".new", "w") as file:
            file.write("\n".join(lines))
        os.rename(self.report_path + ".new", self.report_path)
        self.abort_spawned(family.values())
        for proc in family.values():
            procs.send(proc, signal.SIGKILL)
        self.deadline = time.monotonic() + KILL_GRACE + GIVE_UP
        self._after(KILL_GRACE, self.raise_in_test)

    def stacks(self, members):
        """Has each process that can dump its stacks, and returns them without pytest's frames."""
        seen = os.path.getsize(self.stacks_path)
        for proc in members:
            if procs.catches(proc.pid, STACKS_SIGNAL):
                with open(self.stacks_path, "a") as file:
                    file.write(f"\nStacks of pid {proc.pid}:\n")
                before = os.path.getsize(self.stacks_path)
                procs.send(proc, STACKS_SIGNAL)
                self._wait_until_written(before)
        with open(self.stacks_path, errors="replace") as file:
            file.seek(seen)
            return "".join(line for line in file if not PYTEST_FRAME.search(line))

    def abort_spawned(self, members):
        """Spawned processes do not know our signal, but (PYTHONFAULTHANDLER) dump at SIGABRT."""
        spawned = [proc for proc in members if not procs.catches(proc.pid, STACKS_SIGNAL)]
        for proc in reversed(spawned):  # children before their forkserver
            if procs.catches(proc.pid, signal.SIGABRT):
                procs.send(proc, signal.SIGABRT)
                # One after the other, as they may share the stderr.
                deadline = time.monotonic() + 3
                while procs.runs(proc.pid) and time.monotonic() < deadline:
                    time.sleep(0.02)

    def _wait_until_written(self, before):
        size = before
        for _ in range(150):
            time.sleep(0.02)
            now = os.path.getsize(self.stacks_path)
            if now > before and now == size:
                return
            size = now

    def raise_in_test(self):
        if time.monotonic() >= self.deadline:
            self.give_up()
            return
        self.signal_parent(RAISE_SIGNAL)
        self._after(RAISE_EVERY, self.raise_in_test)

    def give_up(self):
        with open(self.report_path, "a") as file:
            file.write("\nThe test process could not be interrupted and was killed.\n")
        with open(self.report_path, errors="replace") as file:
            sys.stderr.write("\n" + file.read())
        self.signal_parent(signal.SIGKILL)
        self.next_step = None

    def signal_parent(self, signum):
        try:
            signal.pidfd_send_signal(self.alive, signum)
        except ProcessLookupError:
            pass  # main() is about to notice

    def orphaned(self):
        """The test process is gone: nobody else will look after its family."""
        self.keep = {os.getpid()}
        for proc in self.members().values():
            procs.send(proc, signal.SIGKILL)


def main():
    parent, stacks_path = int(sys.argv[1]), sys.argv[2]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is the test run's to handle
    alive = os.pidfd_open(parent)
    guard = _Guard(parent, alive, stacks_path)
    pending = b""
    while True:
        timeout = None
        if guard.next_step is not None:
            timeout = max(0.0, guard.next_step[0] - time.monotonic())
        ready, _, _ = select.select([0, alive], [], [], timeout)
        if alive in ready:
            guard.orphaned()
            return
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:  # dying: its descriptors go before it is gone
                select.select([alive], [], [])
                continue
            *lines, pending = (pending + data).split(b"\n")
            for message in map(json.loads, lines):
                if message["arm"] == "never again":
                    return
                guard.arm(message)
        elif guard.next_step is not None:
            step = guard.next_step[1]
            step()


if __name__ == "__main__":
    main()
