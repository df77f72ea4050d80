"""A program that uses a little of everything, for make valgrind: python -m tests.support.smoke"""

import fastmp

ROUNDS = 3


class Thing:
    """Goes by pickle, where plain values do not."""

    def __init__(self, n):
        self.n = n


def child(queue, connection, lock, value, array):
    for i in range(ROUNDS):
        with lock:
            value.value += 1
            array[i % len(array)] += 1.5
        queue.put(("plain", i, 2.5, None, b"x" * 5000))
        queue.put(Thing(i))
        connection.send(list(range(100)))
        connection.send_bytes(b"y" * 20000)
        assert connection.recv() == "ok"
    connection.close()


def square(x):
    if x == 7:
        raise ValueError(x)
    return x * x


def main():
    context = fastmp.get_context("fork")
    queue, lock, value, array = (
        context.Queue(), context.Lock(), context.Value("i", 0), context.Array("d", 3)
    )  # fmt: skip
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(queue, theirs, lock, value, array))
    process.start()
    theirs.close()
    for i in range(ROUNDS):
        assert queue.get()[1] == i and queue.get().n == i
        assert len(ours.recv()) == 100 and len(ours.recv_bytes()) == 20000
        ours.send("ok")
    process.join()
    assert process.exitcode == 0 and value.value == ROUNDS and sum(array) == 1.5 * ROUNDS
    for i in range(2000):  # the queue grows, and is emptied again
        queue.put(i)
    assert [queue.get() for _ in range(2000)] == list(range(2000))
    with context.Pool(2) as pool:
        assert pool.map(square, range(7)) == [x * x for x in range(7)]
        assert sorted(pool.imap_unordered(square, range(5))) == [0, 1, 4, 9, 16]
        try:
            pool.apply(square, (7,))
        except ValueError as error:
            assert error.args == (7,)
        pool.close()
        pool.join()
    print("smoke: done")


if __name__ == "__main__":
    main()
