"""joblib: its multiprocessing backend, a Pool of its own making, and loky's executor."""

import pytest

from . import program

program.needs("joblib", "numpy")


@pytest.mark.parametrize("way", program.WAYS)
def test_the_multiprocessing_backend(tmp_path, way):
    lines = program.run(
        tmp_path,
        """
        import multiprocessing.pool, os
        import numpy as np
        from joblib import Parallel, delayed
        from joblib.pool import MemmappingPool

        def work(n):
            return n * n, os.getpid()

        def total(array):
            return type(array).__name__, array[::2].sum()

        def fail(n):
            raise LookupError(n)

        if __name__ == "__main__":
            from multiprocessing.pool import Pool
            print(Pool.__module__, issubclass(MemmappingPool, Pool))
            parallel = Parallel(n_jobs=2, backend="multiprocessing")
            results = parallel(delayed(work)(n) for n in range(200))
            print([r for r, _ in results] == [n * n for n in range(200)])
            print(os.getpid() in {pid for _, pid in results})
            # Arrays over max_nbytes travel as a memmap of joblib's.
            big = np.ones(400_000)
            print(Parallel(n_jobs=2, backend="multiprocessing", max_nbytes=1000)(
                delayed(total)(big) for _ in range(3)) == [("memmap", 200_000.0)] * 3)
            try:
                parallel(delayed(fail)(n) for n in range(4))
            except LookupError as e:
                print("LookupError", e.args[0] in range(4))
        """,
        way=way,
        processes=3,
    )
    assert lines == ["fastmp.pool True", "True", "False", "True", "LookupError True"]


LOKY = """
    import multiprocessing, os, sys
    import numpy as np
    from {loky} import get_reusable_executor

    def where(n):
        import multiprocessing
        return n + 1, os.getpid(), multiprocessing.__name__
"""


def test_the_loky_backend(tmp_path):
    """Its workers are started by a launcher of loky's; fastmp reaches them by FASTMP_INSTALL."""
    lines = program.run(
        tmp_path,
        LOKY.format(loky="joblib.externals.loky")
        + """
    from joblib import Parallel, delayed

    if __name__ == "__main__":
        print(multiprocessing.__name__)
        for _ in range(2):  # the executor is used again
            results = Parallel(n_jobs=2)(delayed(where)(n) for n in range(50))
            print([r for r, _, _ in results] == list(range(1, 51)))
            print({name for _, _, name in results}, os.getpid() in {pid for _, pid, _ in results})
        offset = 5
        print(Parallel(n_jobs=2)(delayed(lambda n: n + offset)(n) for n in range(3)))
        array = np.arange(500_000.0)
        print(Parallel(n_jobs=2, max_nbytes=1000)(
            delayed(lambda a: float(a.sum()))(array) for _ in range(2)) == [array.sum()] * 2)
        get_reusable_executor().shutdown(wait=True)
        """,
        processes=3,
    )
    once = ["True", "{'fastmp'} False"]
    assert lines == ["fastmp", *once, *once, "[5, 6, 7]", "True"]
