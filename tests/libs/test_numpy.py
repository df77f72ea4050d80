"""numpy arrays through Queue, Pipe, Pool and shared values."""

import pytest

from .program import needs

needs("numpy")
import numpy as np  # noqa: E402

ARRAYS = {
    "floats": lambda: np.arange(300_000, dtype=np.float64).reshape(300, 1000),
    "fortran": lambda: np.asfortranarray(np.arange(12_000, dtype=np.int32).reshape(100, 120)),
    "strided": lambda: np.arange(100_000)[::3],
    "records": lambda: np.array([(1, "a"), (2, "bc")] * 500, dtype=[("n", "i4"), ("s", "U4")]),
    "objects": lambda: np.array([None, {"a": 1}, "text"] * 100, dtype=object),
    "scalar": lambda: np.array(3.5),
    "empty": lambda: np.zeros((0, 4)),
    "dates": lambda: np.arange("2024-01", "2026-01", dtype="datetime64[D]"),
}


def same(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape and a.flags.writeable
    np.testing.assert_array_equal(a, b)


def echo(source, target):
    while (array := source.get()) is not None:
        target.put((array, float(array.size)))
    target.put(None)


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue"])
def test_through_queues(ctx, kind):
    there, back = getattr(ctx, kind)(), getattr(ctx, kind)()
    process = ctx.Process(target=echo, args=(there, back))
    process.start()
    for make in ARRAYS.values():
        array = make()
        there.put(array)
        received, size = back.get()
        same(received, array)
        assert size == array.size
        received[...] = received[...]  # a copy of one's own, and writable
    there.put(None)
    assert back.get() is None
    process.join()
    there.close()
    back.close()


def transpose(connection):
    for _ in ARRAYS:
        connection.send(connection.recv().T)
    connection.close()


def test_through_a_pipe(ctx):
    ours, theirs = ctx.Pipe()
    process = ctx.Process(target=transpose, args=(theirs,))
    process.start()
    theirs.close()
    for make in ARRAYS.values():
        array = make()
        ours.send(array)
        same(ours.recv(), array.T)
    with pytest.raises(EOFError):
        ours.recv()
    process.join()
    ours.close()


def test_a_change_after_put_does_not_show(ctx):
    queue = ctx.Queue()
    array = np.zeros(1_000_000)
    queue.put(array)
    array += 1
    assert queue.get().sum() == 0
    queue.close()
    queue.join_thread()


def row_sums(block):
    return block.sum(axis=1)


def test_a_pool_maps_over_blocks(ctx):
    matrix = np.random.default_rng(7).normal(size=(400, 500))
    with ctx.Pool(2) as pool:
        blocks = pool.map(row_sums, np.array_split(matrix, 8))
        lazily = list(pool.imap(row_sums, np.array_split(matrix, 8)))
        (product,) = pool.starmap(np.dot, [(matrix, matrix.T)])
    np.testing.assert_allclose(np.concatenate(blocks), matrix.sum(axis=1))
    np.testing.assert_array_equal(np.concatenate(lazily), np.concatenate(blocks))
    # Not `matrix @ matrix.T`: BLAS would start its threads anew here, which fork has ended.
    np.testing.assert_allclose(product, np.einsum("ij,kj->ik", matrix, matrix), atol=1e-9)


def fill(shared, start, stop):
    with shared.get_lock():
        view = np.frombuffer(shared.get_obj(), dtype=np.float64)
        view[start:stop] = np.arange(start, stop)


def test_a_shared_array_as_a_numpy_array(ctx):
    shared = ctx.Array("d", 1000)
    halves = [ctx.Process(target=fill, args=(shared, *half)) for half in [(0, 500), (500, 1000)]]
    for process in halves:
        process.start()
    for process in halves:
        process.join()
    view = np.frombuffer(shared.get_obj(), dtype=np.float64)
    np.testing.assert_array_equal(view, np.arange(1000))
