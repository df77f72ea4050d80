"""fastmp against the standard library, its peers and the machine: ``python -m benchmarks``.

A *row* is one piece of work; a *side* is what does it: the standard library, fastmp, a peer, or a
limit of the machine that no implementation can beat. All sides of a row are measured in one run,
in turn, sample by sample: on a machine that others use too, what was measured a minute ago compares
with nothing. pyperf runs each benchmark to its end before it starts the next, so its runner is not
used; its clock, its model of values and metadata, its statistics and its file format are, and
``python -m pyperf stats`` and ``compare_to`` read what ``--json`` writes.

Each side of a row lives in a process of its own (`runner`), so that one's threads, memory and
crashes are not another's. Every sample checks the answers that it got, outside of the measured
time where it can.

    rows.py      what a row is, and who can do it       suites/     the rows
    sides.py     who takes part                         peers/      how the peers do them
    runner.py    a side of a row, in its own process    limits.py   the limits, in limits.c, ring.c
    measure.py   the turns                              goals.py    what is aimed at
    digests.py   how large messages are checked
    results.py   to and from pyperf's files             figures.py  how figures are written
    report.py, chart.py, documents.py                   what people read
"""
