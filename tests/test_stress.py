"""The kill storms of tests/stress, a moment of each; and that their census bites."""

import os
import random
import time

import pytest

from tests.stress import channels, rounds
from tests.stress.ledger import KEPT, Block, Kind, Station, faults, is_whole, make_message
from tests.stress.locks import Counter, add

SEED = 20


@pytest.mark.parametrize("name", rounds.SCENARIOS)
@pytest.mark.needs_tick
def test_a_moment_of_each_storm(name):
    report = rounds.run(rounds.SCENARIOS[name], "fork", SEED, 1.0)
    assert not report.violations, f"{report}\n" + "\n".join(report.violations)
    assert report.kills + report.terms + report.stops > 0


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.needs_tick
def test_a_moment_of_each_start_method(method):
    report = rounds.run(rounds.SCENARIOS["joinable"], method, SEED, 2.0)
    assert not report.violations, f"{report}\n" + "\n".join(report.violations)
    assert report.members >= 8


#
# The census bites
#


class _Planted(channels.UnboundedQueue):
    """A queue that does something wrong once: to the message with this number."""

    wrong = 40

    def cast(self, crew):
        crew.enlist("consumer", channels.consume, self.queue, 1, False)
        crew.enlist("producer", channels.produce, self.broken(self.queue), 1)


class _Broken:
    """The put side of a queue."""

    def __init__(self, queue):
        self._queue = queue
        self.qsize = queue.qsize

    def put(self, message):
        if message[1] == _Planted.wrong:
            self.do_wrong(message)
        else:
            self._queue.put(message)


class _Losing(_Broken):
    def do_wrong(self, message):
        pass


class _Doubling(_Broken):
    def do_wrong(self, message):
        self._queue.put(message)
        self._queue.put(message)


class _Damaging(_Broken):
    def do_wrong(self, message):
        producer, number, _, checksum = message
        self._queue.put((producer, number, b"something else", checksum))


class _Reordering(_Broken):
    def do_wrong(self, message):
        self._held = message

    def put(self, message):
        super().put(message)
        if message[1] == _Planted.wrong + 1:
            self._queue.put(self._held)


@pytest.mark.parametrize(
    "broken, said",
    [
        (_Losing, "1 messages are missing, 0 may be"),
        (_Doubling, "came 2 times"),
        (_Damaging, "not whole"),
        (_Reordering, "after 41"),
    ],
)
def test_a_wrong_message_is_reported(broken, said):
    class Planted(_Planted):
        pass

    Planted.broken = broken
    report = rounds.run(Planted, "fork", SEED, 1.0, mortal=set())
    assert any(said in text for text in report.violations), report


class _NoLock:
    """Excludes nobody."""

    abandoned = False

    def __init__(self, lock):
        self.acquire, self.release = lock.acquire, lock.release

    def __enter__(self):
        pass

    def __exit__(self, *exc):
        pass


class _Unlocked(Counter):
    def cast(self, crew):
        for _ in range(4):
            crew.enlist("adder", add, _NoLock(self.lock), self.cells, "with")


def test_two_inside_are_reported():
    report = rounds.run(_Unlocked, "fork", SEED, 1.0, mortal=set())
    assert any("two inside" in text for text in report.violations), report


def do_nothing(station):
    """After one step."""
    station.record(Kind.STEP)
    time.sleep(60)


def fail(station):
    raise ValueError("planted")


class _Asleep(Counter):
    def cast(self, crew):
        crew.enlist("adder", do_nothing)

    def victims(self, crew, roles):
        return []


class _Failing(Counter):
    def cast(self, crew):
        crew.enlist("adder", fail)

    def replace(self, crew, member):
        pass


def test_who_does_not_go_on_is_reported(monkeypatch):
    monkeypatch.setattr("tests.stress.storm.BOUND", 0.5)
    monkeypatch.setattr("tests.stress.scenario.BOUND", 0.5)
    report = rounds.run(_Asleep, "fork", SEED, 2.0, mortal=set())
    assert any("did nothing" in text and "do_nothing" in text for text in report.violations)


def test_an_error_in_a_member_is_reported():
    report = rounds.run(_Failing, "fork", SEED, 0.5, mortal=set())
    assert any("ValueError: planted" in text for text in report.violations)


class _Leaking(Counter):
    kept = []

    def create(self):
        super().create()
        self.kept.append(open("/dev/null"))  # noqa: SIM115


def test_what_is_left_is_reported(monkeypatch):
    monkeypatch.setattr(rounds, "GRACE", 0.2)
    report = rounds.run(_Leaking, "fork", SEED, 0.5, mortal=set())
    _Leaking.kept.pop().close()
    assert any("/dev/null" in text for text in report.violations)


def test_messages_tell_whether_they_are_whole():
    rng = random.Random(SEED)
    for number in range(200):
        message = make_message(3, number, rng)
        assert is_whole(message)
        assert not is_whole((4, *message[1:])) and not is_whole((3, number + 1, *message[2:]))
    assert not is_whole(None)


def test_a_block_that_changes_while_it_is_kept_is_reported(tmp_path):
    station = Station(str(tmp_path), 0, SEED)
    rng, kept, number = random.Random(SEED), [], 0
    while len(kept) < 5 * KEPT:
        message = make_message(0, number, rng)
        number += 1
        if isinstance(message[2], Block) and len(message[2].data) > 100:
            kept.append(message)
            station.keep(message)
    assert not faults(str(tmp_path), 0)
    for message in kept:
        message[2].data[50] ^= 1
    for message in kept:
        station.keep(message)
    assert "changed while it was kept" in faults(str(tmp_path), 0)[0]
    os.close(station._ledger)  # a station lives as long as its process
