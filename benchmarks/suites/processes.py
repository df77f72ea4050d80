"""Process: start and join, for each start method."""

import sys

from ..rows import expect, row, timed

EXIT_CODE = 7  # shows that the target ran


def start_and_join(context, n):
    codes = set()
    for _ in range(n):
        # A built-in function, so that a process that starts afresh imports nothing for it.
        process = context.Process(target=sys.exit, args=(EXIT_CODE,))
        process.start()
        process.join()
        codes.add(process.exitcode)
    return codes


def _starting(method):
    def opened(side):
        context = side.context(method)

        def sample(n):
            seconds, codes = timed(start_and_join, context, n)
            expect(codes, {EXIT_CODE})
            return seconds

        yield sample

    return opened


for _method in ("fork", "forkserver", "spawn"):
    row("process", f"Process: start, join ({_method})")(_starting(_method))


def _start_and_hear(context, queue, n):
    answers = set()
    for _ in range(n):
        process = context.Process(target=queue.put, args=(EXIT_CODE,))
        process.start()
        answers.add(queue.get())
        process.join()
    return answers


@row("process", "Process: start, put() into a Queue, join (spawn)")
def start_with_queue(side):
    context = side.context("spawn")
    queue = context.Queue()

    def sample(n):
        seconds, answers = timed(_start_and_hear, context, queue, n)
        expect(answers, {EXIT_CODE})
        return seconds

    yield sample
