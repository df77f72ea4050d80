"""CPython's own tests of multiprocessing, run on fastmp and on the stdlib side by side.

``python -m tests.cpython --python 3.13 --method fork`` runs the tests that the interpreter brings
along, once as they are and once with FASTMP_INSTALL=1, compares the two id by id, and fails when
one that passes on the stdlib does not pass on fastmp.  docs/conformance.md says more.

* `suites`: what is run; `allowed`: which differences are known, and why;
* `environment`: the Python with fastmp in it that runs the tests;
* `inside`, `recorder`: the two modules that are loaded in that Python, and not here;
* `side`: runs a suite on one side, with a watchdog; `witness` reads what the recorder wrote;
* `compare`, `report`: the verdict, the printed table and the one in the documents.
"""
