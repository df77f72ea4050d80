"""Storms over queues and pipes.

The census: a message is received whole and at most once, in its producer's order; it is missing
only if a killed consumer may have had it in its hands: one message, or one batch, for each kill.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from . import ledger
from .ledger import Kind, Station
from .scenario import Scenario, count, dead
from .storm import BOUND, Crew, Member

PRODUCERS = CONSUMERS = 4
BATCH = 8
BACKLOG = 200  # messages that wait; more would only be memory


def produce(station: Station, queue: Any, batch: int) -> None:
    """Put numbered messages until the storm is over."""
    number = 0
    rng = station.random
    has_size = hasattr(queue, "qsize")
    while not station.stopping():
        if batch > 1 and rng.random() < 0.2:
            end = number + rng.randint(1, batch)
            queue.put_many([ledger.make_message(station.index, n, rng) for n in range(number, end)])
        else:
            end = number + 1
            queue.put(ledger.make_message(station.index, number, rng))
        number = end
        station.record(Kind.SENT, 0, number)
        if not has_size:
            time.sleep(0.002)
        elif queue.qsize() > BACKLOG:
            time.sleep(0.005)


def consume(station: Station, queue: Any, batch: int, joinable: bool) -> None:
    """Take messages until None comes."""
    while True:
        if batch > 1 and station.random.random() < 0.3:
            messages = queue.get_many(station.random.randint(1, batch))
            station.check(bool(messages), "get_many() without a timeout gave nothing")
        else:
            messages = [queue.get()]
        for message in messages:
            if message is not None:
                receive(station, message)
            if joinable:
                queue.task_done()
                station.record(Kind.DONE)
        ends = messages.count(None)
        if ends:
            for _ in range(ends - 1):
                queue.put(None)
            return


def receive(station: Station, message: Any) -> None:
    """Write down that a message was received."""
    if ledger.is_whole(message):
        station.record(Kind.GOT, message[0], message[1])
        station.keep(message)
    else:
        station.fault(f"not whole: {message!r:.300}")


def audit_messages(crew: Crew, hands: int, batch: int) -> tuple[list[str], str]:
    """The violations, and a summary; killed consumers' *hands* may have held so many messages."""
    sent: dict[int, int] = defaultdict(int)
    got: Counter[tuple[int, int]] = Counter()
    violations: list[str] = []
    for member in crew.members:
        last: dict[int, int] = {}
        for kind, who, number in ledger.read(crew.where, member.index):
            if kind == Kind.SENT:
                sent[member.index] = number
            elif kind == Kind.GOT:
                got[who, number] += 1
                if number <= last.get(who, -1):
                    violations.append(
                        f"{member.role} {member.index} got message {number} of {who} "
                        f"after {last[who]}"
                    )
                last[who] = number
    violations += [f"message {n} of {who} came {c} times" for (who, n), c in got.items() if c > 1]
    violations += [
        f"message {n} of {who} was never sent" for who, n in got if n >= sent[who] + batch
    ]
    missing = [(who, n) for who, end in sent.items() for n in range(end) if (who, n) not in got]
    if len(missing) > hands:
        violations.append(
            f"{len(missing)} messages are missing, {hands} may be; (producer, number): "
            f"{missing[:20]}"
        )
    summary = f"{sum(got.values())} messages, {len(missing)} in dead hands"
    return violations[:20], summary


class _Queue(Scenario):
    roles = ("producer", "consumer")
    batch = BATCH
    joinable = False

    def create(self) -> None:
        self.queue = self.make_queue()

    def make_queue(self) -> Any:
        raise NotImplementedError

    def cast(self, crew: Crew) -> None:
        for _ in range(CONSUMERS):
            crew.enlist("consumer", consume, self.queue, self.batch, self.joinable)
        for _ in range(PRODUCERS):
            crew.enlist("producer", produce, self.queue, self.batch)

    def finish(self, crew: Crew) -> None:
        crew.wait(crew.living("producer"))
        deadline = time.monotonic() + BOUND
        while crew.living() and time.monotonic() < deadline:
            if self.queue.empty():
                self.queue.put(None)
            crew.reap()
            time.sleep(0.005)
        crew.wait(crew.living(), 0)

    def audit(self, crew: Crew) -> Iterator[str]:
        hands = dead(crew, "consumer") * self.batch
        violations, self.summary = audit_messages(crew, hands, self.batch)
        yield from violations
        while not self.queue.empty():
            left = self.queue.get()
            if left is not None:
                yield f"still in the queue: {left!r:.100}"
            if self.joinable:
                self.queue.task_done()

    def close(self) -> None:
        self.queue.close()
        del self.queue


class UnboundedQueue(_Queue):
    """Queue(): put, get, put_many, get_many."""

    name = "queue"

    def make_queue(self) -> Any:
        return self.ctx.Queue()


class BoundedQueue(_Queue):
    """Queue(n): putters wait too."""

    name = "bounded"

    def make_queue(self) -> Any:
        size = self.random.choice([1, 3, 20])
        self.variant = f"of {size}"
        return self.ctx.Queue(size)


class JoinableQueue(_Queue):
    """JoinableQueue(): what is unfinished in the end is what dead consumers had taken."""

    name = "joinable"
    joinable = True
    batch = 1

    def make_queue(self) -> Any:
        return self.ctx.JoinableQueue()

    def audit(self, crew: Crew) -> Iterator[str]:
        yield from super().audit(crew)
        unfinished = 0
        while True:
            try:
                self.queue.task_done()
            except ValueError:
                break
            unfinished += 1
        self.queue.join()
        taken = dead(crew, "consumer")
        if unfinished > taken:
            yield f"{unfinished} tasks are unfinished, of {taken} dead consumers"
        self.summary += f", {count(crew, Kind.DONE)} tasks done"


class SimpleQueue(_Queue):
    """SimpleQueue()."""

    name = "simple"
    batch = 1

    def make_queue(self) -> Any:
        return self.ctx.SimpleQueue()


def send(station: Station, mine: Any, others: Any) -> None:
    """Send until the storm is over or the other side is dead."""
    others.close()
    number = 0
    try:
        while not station.stopping():
            mine.send(ledger.make_message(station.index, number, station.random))
            number += 1
            station.record(Kind.SENT, 0, number)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the receiver is dead
    mine.close()


def recv(station: Station, mine: Any, others: Any) -> None:
    """Receive to the end: until the sender has closed its side, or is dead."""
    others.close()
    while True:
        try:
            message = mine.recv()
        except (EOFError, ConnectionResetError):
            return
        receive(station, message)


class Pipe(Scenario):
    """Pairs over Pipe(): a dead sender loses nothing, a dead receiver what nobody received."""

    name = "pipe"
    roles = ("sender", "receiver")
    pairs = 4

    def create(self) -> None:
        self.partner: dict[int, Member] = {}
        self.renewed: set[tuple[int, int]] = set()

    def cast(self, crew: Crew) -> None:
        for _ in range(self.pairs):
            self.pair(crew)

    def pair(self, crew: Crew) -> None:
        reader, writer = self.ctx.Pipe(duplex=self.random.random() < 0.5)
        receiver = crew.enlist("receiver", recv, reader, writer)
        sender = crew.enlist("sender", send, writer, reader)
        reader.close()
        writer.close()
        # They must not keep the connections' other ends alive in here.
        receiver.args = sender.args = ()
        self.partner[receiver.index], self.partner[sender.index] = sender, receiver

    def replace(self, crew: Crew, member: Member) -> None:
        partner = self.partner[member.index]
        # Both may have been found dead at once: one new pair, not two.
        if partner.exitcode is not None and (member.index, partner.index) not in self.renewed:
            self.renewed.add((partner.index, member.index))
            self.pair(crew)

    def audit(self, crew: Crew) -> Iterator[str]:
        violations, self.summary = audit_messages(crew, 1 << 60, 1)
        yield from violations
        for receiver in crew.members:
            if receiver.role != "receiver" or receiver.killed:
                continue
            sender = self.partner[receiver.index]
            sent = max((r.number for r in ledger.read(crew.where, sender.index)), default=0)
            got = sum(r.kind == Kind.GOT for r in ledger.read(crew.where, receiver.index))
            if not sent <= got <= sent + sender.killed:
                yield f"receiver {receiver.index} got {got} of {sent} from {sender}"
