"""loky by itself: contexts beside fastmp's, queues that subclass the standard library's."""

import pytest

from . import program

program.needs("loky")


@pytest.mark.parametrize("context", ["loky", "spawn", "forkserver"])
def test_an_executor(tmp_path, context):
    lines = program.run(
        tmp_path,
        """
        import multiprocessing, os, signal, sys
        from loky import ProcessPoolExecutor
        from loky.backend import get_context
        from loky.process_executor import TerminatedWorkerError

        def where(n):
            import multiprocessing
            return n * 2, os.getpid(), multiprocessing.__name__

        def die():
            os.kill(os.getpid(), signal.SIGKILL)

        if __name__ == "__main__":
            context = get_context(sys.argv[1])
            print(multiprocessing.__name__, context.get_start_method())
            executor = ProcessPoolExecutor(2, context=context)
            results = list(executor.map(where, range(30)))
            print([r for r, _, _ in results] == [n * 2 for n in range(30)])
            print({name for _, _, name in results}, os.getpid() in {pid for _, pid, _ in results})
            try:
                executor.submit(die).result(timeout=30)
            except TerminatedWorkerError as e:
                print("terminated", "SIGKILL" in str(e))
            executor.shutdown(wait=True)
        """,
        context,
        processes=3,
    )
    assert lines == [f"fastmp {context}", "True", "{'fastmp'} False", "terminated True"]
