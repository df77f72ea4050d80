"""Count the identifiers of every .py file of this Python's standard library.

    python examples/wordcount.py [--method spawn] [--processes 4] [--rounds 3] [--root FOLDER]

The job is a plain multiprocessing program: a Pool maps a function over the files, and a Queue,
given to the workers by the pool's initializer, feeds a progress line. It runs once in this process
alone, then in turn under the standard library's multiprocessing and under fastmp. Each answer must
equal the single process's, else the exit code is 1. The times are of the whole job, from making the
pool to joining it.

What is counted: identifiers in the sense of the tokenizer, so neither keywords nor what stands in
strings and comments. One regular expression finds them, in less than half the time of the tokenize
module; it differs from it in that a whole f-string is a string. Files that do not decode are
counted as such.
"""

import argparse
import keyword
import multiprocessing
import os
import queue
import re
import statistics
import sys
import sysconfig
import time
import tokenize
from collections import Counter
from pathlib import Path

import fastmp

# Comments, strings and numbers come first, so that no name is seen inside one.
TOKEN = re.compile(
    r"""
    \# [^\n]*
  | (?: \b (?:[rbuf]|rb|br|rf|fr) )? (?:
        '{3} [^'\\]* (?: (?: \\. | '(?!'') ) [^'\\]* )* '{3}
      | "{3} [^"\\]* (?: (?: \\. | "(?!"") ) [^"\\]* )* "{3}
      | ' [^'\\\n]* (?: \\. [^'\\\n]* )* '
      | " [^"\\\n]* (?: \\. [^"\\\n]* )* "
    )
  | (?: 0[xob][\da-f_]+ | (?: \d[\d_]*\.?[\d_]* | \.\d[\d_]* ) (?: e[+-]?\d[\d_]* )? j? )
  | ( [^\W\d]\w* )
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
NOT_IDENTIFIERS = frozenset(keyword.kwlist) | {""}


def identifiers(text):
    """How often each identifier stands in a Python source text."""
    counts = Counter(TOKEN.findall(text))
    for word in NOT_IDENTIFIERS & counts.keys():
        del counts[word]
    return counts


def count_file(path):
    """The identifiers of one file; None if its bytes do not decode as it declares."""
    try:
        with tokenize.open(path) as file:
            return identifiers(file.read())
    except (SyntaxError, UnicodeDecodeError):
        return None


def merged(counted):
    """The sum of what count_file gave for each file, and how many files did not decode."""
    total, undecodable = Counter(), 0
    for counts in counted:
        if counts is None:
            undecodable += 1
        else:
            total.update(counts)
    return total, undecodable


def start_worker(progress):
    count_and_report.progress = progress


def count_and_report(path):
    counts = count_file(path)
    count_and_report.progress.put(path)
    return counts


def count_in_pool(context, processes, paths, label):
    """The job: `context` is one of multiprocessing's, or of fastmp's."""
    progress = context.Queue()
    with context.Pool(processes, start_worker, (progress,)) as pool:
        job = pool.map_async(count_and_report, paths)
        show_progress(progress, job, len(paths), label)
        answer = merged(job.get())
        pool.close()
        pool.join()
    return answer


def show_progress(progress, job, total, label):
    """Keep one line up to date with what the workers tell, until they are done with every file."""
    interactive = sys.stderr.isatty()
    done = 0
    while done < total:
        try:
            path = progress.get(timeout=1)
        except queue.Empty:
            if job.ready():
                break  # it failed, and job.get() says how
            continue
        done += 1
        if interactive:
            line = f"{label}: {done} of {total} files, {os.path.basename(path)}"
            print(f"\r{line:.78}\033[K", end="", file=sys.stderr, flush=True)
    if interactive:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    print(f"{label}: {done} of {total} files", file=sys.stderr)


def timed(function, *args):
    start = time.perf_counter()
    answer = function(*args)
    return time.perf_counter() - start, answer


def python_files(root):
    """The .py files below a folder, in a fixed order, without packages installed there."""
    return sorted(str(path) for path in root.rglob("*.py") if "site-packages" not in path.parts)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description="Count the identifiers of the standard library's .py files."
    )
    parser.add_argument("--method", choices=multiprocessing.get_all_start_methods(), default="fork")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3, help="how often each package runs the job")
    parser.add_argument("--root", type=Path, default=Path(sysconfig.get_path("stdlib")))
    parser.add_argument(
        "--top", type=int, default=10, help="how many of the commonest identifiers to print"
    )
    arguments = parser.parse_args()
    if arguments.processes < 1 or arguments.rounds < 1:
        parser.error("--processes and --rounds must be at least 1")
    return arguments


def run_in_turn(contexts, rounds, processes, paths):
    """For each package the times of its jobs and their answers; the one that starts alternates."""
    times = {label: [] for label in contexts}
    answers = {label: [] for label in contexts}
    for number in range(rounds):
        labels = list(contexts)
        for label in labels if number % 2 == 0 else reversed(labels):
            took, answer = timed(count_in_pool, contexts[label], processes, paths, label)
            times[label].append(took)
            answers[label].append(answer)
    return times, answers


def print_times(single, times):
    print(f"{'one process':>16} {single:8.3f} s")
    medians = {label: statistics.median(taken) for label, taken in times.items()}
    for label, taken in times.items():
        print(f"{label:>16} {medians[label]:8.3f} s   ({min(taken):.3f} to {max(taken):.3f})")
    print(f"{'ratio':>16} {medians['multiprocessing'] / medians['fastmp']:8.2f}     (> 1: faster)")


def main():
    arguments = parse_arguments()
    if multiprocessing is fastmp:
        print("run this without `-m fastmp`: it compares the two by itself", file=sys.stderr)
        return 2
    paths = python_files(arguments.root)
    if not paths:
        print(f"no .py file below {arguments.root}", file=sys.stderr)
        return 2

    single, expected = timed(lambda: merged(map(count_file, paths)))
    contexts = {
        "multiprocessing": multiprocessing.get_context(arguments.method),
        "fastmp": fastmp.get_context(arguments.method),
    }
    times, answers = run_in_turn(contexts, arguments.rounds, arguments.processes, paths)

    counts, undecodable = expected
    print(f"{len(paths)} files ({undecodable} undecodable) below {arguments.root}")
    print(f"{sum(counts.values())} identifiers, {len(counts)} different ones; the commonest:")
    for word, count in counts.most_common(arguments.top):
        print(f"{count:10d} {word}")
    print(f"{arguments.method}, {arguments.processes} processes, median of {arguments.rounds}:")
    print_times(single, times)

    wrong = [label for label in contexts if any(answer != expected for answer in answers[label])]
    if wrong:
        print("WRONG, not the single process's answer:", *wrong)
        return 1
    print("each answer equals the single process's")
    return 0


if __name__ == "__main__":
    sys.exit(main())
