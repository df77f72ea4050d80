"""A program that starts processes: ``python program.py PACKAGE METHOD``.

For each line of its input it starts and joins as many as the line says, and prints the seconds that
it took. As in most programs what runs in the processes is in the main module; and each package has
a program, and so a fork server, of its own.
"""

import importlib
import sys
import time

multiprocessing = importlib.import_module(sys.argv[1])
EXIT_CODE = 7  # shows that the target ran


def leave():
    sys.exit(EXIT_CODE)


def start_and_join(context):
    process = context.Process(target=leave)
    process.start()
    process.join()
    assert process.exitcode == EXIT_CODE, process


def main():
    context = multiprocessing.get_context(sys.argv[2])
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            start_and_join(context)
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
