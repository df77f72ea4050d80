"""logging.handlers.QueueHandler in children, QueueListener in the parent."""

import inspect
import logging
import logging.config
import logging.handlers

import pytest

import fastmp


class Kept(logging.Handler):
    """Keeps what it handles."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


def work(queue, number):
    logger = logging.getLogger(f"worker.{number}")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.handlers.QueueHandler(queue))
    for line in range(50):
        logger.info("line %d of %s", line, number)
    logger.debug("not wanted")
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        logger.exception("failed")


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue"])
def test_records_of_children_reach_the_listener(ctx, kind):
    queue, kept = getattr(ctx, kind)(), Kept()
    listener = logging.handlers.QueueListener(queue, kept)
    listener.start()
    workers = [ctx.Process(target=work, args=(queue, number)) for number in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    listener.stop()
    queue.close()
    queue.join_thread()
    for number, worker in enumerate(workers):
        mine = [record for record in kept.records if record.name == f"worker.{number}"]
        messages = [record.getMessage() for record in mine]
        assert messages[:50] == [f"line {line} of {number}" for line in range(50)]
        assert len(mine) == 51 and "ZeroDivisionError" in messages[50]
        assert {record.process for record in mine} == {worker.pid}


@pytest.mark.skipif(
    "multiprocessing" not in inspect.getsource(logging.config),
    reason="this Python's dictConfig takes no queue of multiprocessing, the stdlib's neither",
)
@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "Manager().Queue"])
def test_dictconfig_takes_fastmps_queues(kind):
    ctx = fastmp.get_context("fork")
    manager = ctx.Manager() if kind.startswith("Manager") else None
    queue = manager.Queue() if manager else getattr(ctx, kind)()
    kept = Kept()
    root = logging.getLogger("configured")
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {
                "kept": {"()": lambda: kept},
                "queued": {
                    "class": "logging.handlers.QueueHandler",
                    "queue": queue,
                    "handlers": ["kept"],
                },
            },
            "loggers": {"configured": {"handlers": ["queued"], "level": "INFO"}},
        }
    )
    (handler,) = root.handlers
    assert handler.queue is queue
    handler.listener.start()
    process = ctx.Process(target=root.info, args=("from %s", "a child"))
    process.start()
    process.join()
    handler.listener.stop()
    root.removeHandler(handler)
    if manager:
        manager.shutdown()
    else:
        queue.close()
        queue.join_thread()
    assert [record.getMessage() for record in kept.records] == ["from a child"]
