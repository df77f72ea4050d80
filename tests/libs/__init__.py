"""Programs nobody here wrote: libraries that build on multiprocessing, run on fastmp.

One file a library; docs/libraries.md lists what is covered and how it is run. Each test checks a
result of real use. What a library does with its own `import multiprocessing` runs as a program
under FASTMP_INSTALL=1 or `python -m fastmp` (`program.run`), and its log proves that no process had
the standard library in fastmp's place. A library that is not importable is skipped, and says so.
"""
