"""multiprocess (dill's copy of multiprocessing) beside fastmp, in one program."""

from . import program

program.needs("multiprocess")


def test_beside_each_other(tmp_path):
    """Each package's pools, queues and processes work, and those of one in the other's children."""
    lines = program.run(
        tmp_path,
        """
        import multiprocess, multiprocessing
        from multiprocess import Pool as DillPool

        def put(queue, value):
            queue.put((value, multiprocessing.__name__))
            queue.close()  # the other package's exit does not wait for this one's threads
            queue.join_thread()

        if __name__ == "__main__":
            offset = 10
            with DillPool(2) as theirs, multiprocessing.Pool(2) as ours:
                print(theirs.map(lambda n: n + offset, range(5)))
                print(ours.map(abs, range(-4, 1)))
            both = [multiprocess, multiprocessing]
            for package, other in zip(both, reversed(both)):
                queue, lock = other.Queue(), other.Lock()
                process = package.Process(target=put, args=(queue, package.__name__))
                process.start()
                print(*queue.get(timeout=20))
                process.join()
                print(process.exitcode, package.active_children())
                with lock:
                    pass
        """,
        processes=3,
    )
    assert lines == [
        "[10, 11, 12, 13, 14]",
        "[4, 3, 2, 1, 0]",
        "multiprocess fastmp",
        "0 []",
        "fastmp fastmp",
        "0 []",
    ]
