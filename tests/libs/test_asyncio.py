"""asyncio: a connection in the loop's selector, and executors of processes."""

import asyncio
import os
import time
from concurrent.futures import ProcessPoolExecutor

COUNT = 200


def send_all(connection):
    for number in range(COUNT):
        connection.send((number, "x" * (number * 50)))
        if number % 50 == 0:
            time.sleep(0.01)  # the reader falls asleep in its selector
    connection.close()


async def receive_all(connection):
    """What comes until the end of file, by add_reader() alone: nothing blocks the loop."""
    loop = asyncio.get_running_loop()
    received, ended = [], loop.create_future()

    def readable():
        try:
            while connection.poll():
                received.append(connection.recv())
        except EOFError:
            loop.remove_reader(connection.fileno())
            ended.set_result(None)

    loop.add_reader(connection.fileno(), readable)
    await asyncio.wait_for(ended, 30)
    return received


def test_add_reader_on_a_connection(ctx):
    reader, writer = ctx.Pipe(duplex=False)
    process = ctx.Process(target=send_all, args=(writer,))
    process.start()
    writer.close()
    received = asyncio.run(receive_all(reader))
    process.join()
    reader.close()
    assert received == [(number, "x" * (number * 50)) for number in range(COUNT)]


async def answer(connection):
    """Ask a question at a time over a duplex connection, beside a timer of the same loop."""
    loop = asyncio.get_running_loop()
    ticks = []

    async def clock():
        while True:
            ticks.append(loop.time())
            await asyncio.sleep(0.001)

    timer = asyncio.create_task(clock())
    answers = []
    for number in range(20):
        come = loop.create_future()
        loop.add_reader(connection.fileno(), come.set_result, None)
        connection.send(number)
        await asyncio.wait_for(come, 30)
        loop.remove_reader(connection.fileno())
        answers.append(connection.recv())
    connection.send(None)
    timer.cancel()
    return answers, len(ticks)


def square(connection):
    while (number := connection.recv()) is not None:
        time.sleep(0.005)
        connection.send(number * number)


def test_the_loop_goes_on_while_an_answer_is_awaited(ctx):
    ours, theirs = ctx.Pipe()
    process = ctx.Process(target=square, args=(theirs,))
    process.start()
    theirs.close()
    answers, ticks = asyncio.run(answer(ours))
    process.join()
    ours.close()
    assert answers == [number * number for number in range(20)]
    assert ticks > 20  # the timer ran between the answers


def pid_after(seconds):
    time.sleep(seconds)
    return os.getpid()


def test_run_in_executor(ctx):
    async def main(executor):
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, pid_after, 0.1) for _ in range(4)]
        return await asyncio.gather(*calls)

    with ProcessPoolExecutor(2, mp_context=ctx) as executor:
        pids = asyncio.run(main(executor))
    assert len(pids) == 4 and os.getpid() not in pids
