"""tqdm over a pool's iterators, its locks shared with the workers, and its process_map."""

import io

import pytest

from . import program

program.needs("tqdm")
from tqdm import tqdm  # noqa: E402

import fastmp  # noqa: E402


@pytest.fixture(autouse=True)
def no_monitor(monkeypatch):
    """tqdm's monitor thread would stay for the next bar."""
    monkeypatch.setattr(tqdm, "monitor_interval", 0)


def double(n):
    return n * 2


def test_a_bar_over_imap(ctx):
    shown = io.StringIO()
    with ctx.Pool(2) as pool:
        results = list(tqdm(pool.imap(double, range(300), chunksize=7), total=300, file=shown))
        some = set(tqdm(pool.imap_unordered(double, range(50)), total=50, file=shown))
    assert results == [n * 2 for n in range(300)]
    assert some == {n * 2 for n in range(50)}
    assert "300/300" in shown.getvalue() and "50/50" in shown.getvalue()


def locked(n):
    with tqdm.get_lock():
        tqdm.write("", file=io.StringIO())
    return n


def test_its_lock_is_the_workers_too():
    """As tqdm documents it: set_lock() in the parent and as the initializer of the workers."""
    ctx = fastmp.get_context("fork")
    before = tqdm._lock if hasattr(tqdm, "_lock") else None
    lock = ctx.RLock()
    tqdm.set_lock(lock)
    try:
        with ctx.Pool(2, initializer=tqdm.set_lock, initargs=(lock,)) as pool:
            assert list(tqdm(pool.imap(locked, range(40)), file=io.StringIO())) == list(range(40))
    finally:
        if before is None:
            del tqdm._lock
        else:
            tqdm.set_lock(before)


@pytest.mark.parametrize("way", program.WAYS)
def test_process_map(tmp_path, way):
    lines = program.run(
        tmp_path,
        """
        from tqdm.contrib.concurrent import process_map
        from tqdm.std import TqdmDefaultWriteLock
        if __name__ == "__main__":
            print(process_map(abs, range(-6, 0), max_workers=2, chunksize=2))
            print(type(TqdmDefaultWriteLock.mp_lock).__module__)
        """,
        way=way,
    )
    assert lines == ["[6, 5, 4, 3, 2, 1]", "fastmp.synchronize"]
