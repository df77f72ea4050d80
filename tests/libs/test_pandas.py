"""pandas frames through Queue, Pipe and Pool: the usual split, apply, combine."""

from .program import needs

needs("pandas")
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402


def frame():
    count = 6_000
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "key": pd.Categorical.from_codes(rng.integers(0, 4, count), ["a", "b", "c", "d"]),
            "value": rng.normal(size=count),
            "text": [f"row {n}" for n in range(count)],
            "when": pd.date_range("2026-01-01", periods=count, freq="min", tz="UTC"),
            "gap": pd.array([None if n % 3 else n for n in range(count)], dtype="Int64"),
        },
        index=pd.Index(range(10, count + 10), name="number"),
    )


def totals(part):
    return part.groupby("key", observed=False)["value"].agg(["sum", "count"])


def echo(connection, queue):
    received = connection.recv()
    queue.put(received)
    queue.put(totals(received))
    connection.send(received["gap"])


def test_through_queue_and_pipe(ctx):
    ours, theirs = ctx.Pipe()
    queue = ctx.Queue()
    process = ctx.Process(target=echo, args=(theirs, queue))
    process.start()
    data = frame()
    ours.send(data)
    back = queue.get()
    pd.testing.assert_frame_equal(back, data)
    pd.testing.assert_frame_equal(queue.get(), totals(data))
    pd.testing.assert_series_equal(ours.recv(), data["gap"])
    back.loc[10, "value"] = 1.5  # a frame of one's own
    process.join()
    for thing in ours, theirs, queue:
        thing.close()


def test_a_pool_splits_and_combines(ctx):
    data = frame()
    parts = [data.iloc[start : start + 500] for start in range(0, len(data), 500)]
    with ctx.Pool(2) as pool:
        combined = sum(pool.imap_unordered(totals, parts), start=0 * totals(parts[0]))
    expected = totals(data)
    pd.testing.assert_series_equal(combined["count"], expected["count"])
    pd.testing.assert_series_equal(combined["sum"], expected["sum"])
