"""fastmp against the standard library's multiprocessing: ``python -m benchmarks``.

Both are measured in one run, in turn, sample by sample: on a machine that others use too, what was
measured a minute ago compares with nothing. That is why this does not stand on pyperf, which runs
each benchmark to its end in processes of its own before it starts the next; of what it gives,
calibration and robust statistics are a few lines over ``time.perf_counter`` and ``statistics``.

Every sample checks the answers that it got, outside of the measured time where it can.
"""
