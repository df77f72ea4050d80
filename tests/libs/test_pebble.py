"""pebble: a pool that kills what takes too long, workers that are waited for with poll()."""

import pytest

from . import program

program.needs("pebble")


@pytest.mark.parametrize("way", program.WAYS)
def test_a_pool_with_timeouts(tmp_path, start_method, way):
    if way != "FASTMP_INSTALL" and start_method == "forkserver":
        pytest.skip("the other way is enough for the slowest method")
    lines = program.run(
        tmp_path,
        """
        import multiprocessing, os, sys, time
        from concurrent.futures import TimeoutError
        from pebble import ProcessExpired, ProcessPool, concurrent

        def double(n):
            return n * 2, os.getpid(), multiprocessing.__name__

        def sleep(seconds):
            time.sleep(seconds)
            return seconds

        if __name__ == "__main__":
            context = multiprocessing.get_context(sys.argv[1])
            with ProcessPool(max_workers=2, context=context) as pool:
                results = list(pool.map(double, range(40), chunksize=5).result())
                print([r for r, _, _ in results] == [n * 2 for n in range(40)])
                print({name for _, _, name in results})
                slow = pool.schedule(sleep, args=[60], timeout=0.3)
                died = pool.schedule(os._exit, args=[7])
                try:
                    slow.result()
                except TimeoutError:
                    print("timed out")
                try:
                    died.result()
                except ProcessExpired as e:
                    print("expired", e.exitcode)
                cancelled = pool.schedule(sleep, args=[60])
                while not cancelled.running():
                    time.sleep(0.01)
                print("cancelled", cancelled.cancel())
                print("goes on", pool.schedule(sleep, args=[0]).result())  # its workers were killed

            @concurrent.process(timeout=30, context=context)
            def alone(n):
                return n + 1

            if sys.argv[1] == "fork":
                print(alone(1).result())
        """,
        start_method,
        way=way,
        processes=4,
    )
    assert lines == [
        "True",
        "{'fastmp'}",
        "timed out",
        "expired 7",
        "cancelled True",
        "goes on 0",
        *(["2"] if start_method == "fork" else []),
    ]
