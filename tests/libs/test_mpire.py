"""mpire: a WorkerPool over multiprocessing's queues, events, arrays and managers."""

import pytest

from . import program

program.needs("mpire")


@pytest.mark.parametrize("way", program.WAYS)
def test_a_worker_pool(tmp_path, start_method, way):
    if way != "FASTMP_INSTALL" and start_method != "fork":
        pytest.skip("the other way is enough for the slower methods")
    lines = program.run(
        tmp_path,
        """
        import multiprocessing, os, sys, time
        from mpire import WorkerPool

        def start(shared, state):
            state["count"] = 0

        def work(shared, state, n):
            state["count"] += 1
            with shared.get_lock():
                shared.value += 1
            return n * n, multiprocessing.__name__

        def finish(shared, state):
            return state["count"]

        def fail(n):
            raise LookupError(n)

        if __name__ == "__main__":
            method = sys.argv[1]
            shared = multiprocessing.get_context(method).Value("i", 0)
            with WorkerPool(2, start_method=method, shared_objects=shared,
                            use_worker_state=True) as pool:
                results = pool.map(work, range(100), worker_init=start, worker_exit=finish,
                                   chunk_size=5)
                pool.stop_and_join()
                print([r for r, _ in results] == [n * n for n in range(100)])
                print({name for _, name in results}, shared.value, sum(pool.get_exit_results()))
            if method != "fork":
                sys.exit()
            with WorkerPool(2, start_method=method, enable_insights=True) as pool:
                print(sorted(pool.imap_unordered(abs, [(-n,) for n in range(5)])))
                print(sum(pool.get_insights()["n_completed_tasks"]))
                print(pool.apply(max, (3, 9)))
            with WorkerPool(2, start_method=method) as pool:
                try:
                    pool.map(fail, range(4))
                except LookupError as e:
                    print("LookupError")
            with WorkerPool(2, start_method=method) as pool:
                try:
                    pool.map(time.sleep, [60], task_timeout=0.3)
                except TimeoutError:
                    print("timed out")
        """,
        start_method,
        way=way,
        processes=3,
    )
    expected = ["True", "{'fastmp'} 100 100"]
    if start_method == "fork":
        expected += ["[0, 1, 2, 3, 4]", "5", "9", "LookupError", "timed out"]
    assert lines == expected
