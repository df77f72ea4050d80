"""PyTorch: DataLoader's workers, tensors through fastmp's queues, torch.multiprocessing.spawn.

torch.multiprocessing re-exports `multiprocessing`, registers reducers that move a tensor's storage
to shared memory, and passes its descriptors by `DupFd`. A program of it takes seconds to start,
so each test does much.
"""

import pytest

from tests.libs import program

program.needs("torch")

pytestmark = pytest.mark.watchdog(240)
TIMEOUT = 200


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_data_loader(tmp_path, method):
    lines = program.run(
        tmp_path,
        """
        import multiprocessing, sys
        import torch
        from torch.utils.data import DataLoader, Dataset, get_worker_info

        class Numbers(Dataset):
            def __len__(self):
                return 96

            def __getitem__(self, i):
                return torch.full((50, 50), float(i)), i, get_worker_info().id

        class Fails(Numbers):
            def __getitem__(self, i):
                raise LookupError("from a worker")

        if __name__ == "__main__":
            torch.set_num_threads(1)
            context = multiprocessing.get_context(sys.argv[1])
            if sys.argv[1] == "forkserver":
                context.set_forkserver_preload(["torch"])
            print(multiprocessing.__name__, type(context).__module__)
            loader = DataLoader(Numbers(), batch_size=8, num_workers=2, prefetch_factor=3,
                                persistent_workers=True, multiprocessing_context=context)
            for epoch in range(2):
                seen, workers = [], set()
                for tensors, numbers, ids in loader:
                    assert tensors.shape == (8, 50, 50) and tensors.is_shared()
                    assert torch.equal(tensors[:, 3, 4], numbers.float())
                    seen += numbers.tolist()
                    workers |= set(ids.tolist())
                print(seen == list(range(96)), workers)
            del loader
            try:
                next(iter(DataLoader(Fails(), num_workers=1, multiprocessing_context=context)))
            except LookupError as e:
                print("LookupError", "from a worker" in str(e))
        """,
        method,
        processes=3,
        timeout=TIMEOUT,
    )
    once = "True {0, 1}"
    assert lines == ["fastmp fastmp.context", once, once, "LookupError True"]


def test_tensors_through_queues_and_pipes(tmp_path):
    """A tensor arrives as the same memory: what the receiver writes, the sender sees."""
    lines = program.run(
        tmp_path,
        """
        import torch
        import torch.multiprocessing as multiprocessing

        def work(take, give, done):
            for tensor in iter(take.get, None):
                tensor += 1
                give({"sum": tensor.sum(), "again": tensor})
                del tensor
            done.wait()

        def echo(take, connection, done):
            work(take, connection.send, done)

        def put(take, queue, done):
            work(take, queue.put, done)

        if __name__ == "__main__":
            torch.set_num_threads(1)
            multiprocessing.set_forkserver_preload(["torch"])
            for method in "fork", "forkserver":
                context = multiprocessing.get_context(method)
                print(type(context).__module__, multiprocessing.Queue().__class__.__module__)
                for kind in "Queue", "SimpleQueue", "Pipe":
                    take, done = context.Queue(), context.Event()
                    if kind == "Pipe":
                        back, there = context.Pipe(duplex=False)
                        get, target = back.recv, echo
                    else:
                        there = getattr(context, kind)()
                        get, target = there.get, put
                    process = context.Process(target=target, args=(take, there, done))
                    process.start()
                    for size in 10, 100_000:
                        tensor = torch.zeros(size)
                        take.put(tensor)
                        answer = get()
                        # One memory, three views of it.
                        tensor[0] = 7
                        print(answer["sum"].item() == size, answer["again"][0].item(),
                              tensor[1].item(), answer["again"].is_shared())
                        del answer, tensor
                    take.put(None)
                    done.set()
                    process.join()
                    print(kind, process.exitcode)
        """,
        processes=4,
        timeout=TIMEOUT,
    )
    each = ["True 7.0 1.0 True"] * 2
    once = ["fastmp.context fastmp.queues"]
    for kind in "Queue", "SimpleQueue", "Pipe":
        once += [*each, f"{kind} 0"]
    assert lines == once * 2


def test_spawn(tmp_path):
    """torch.multiprocessing.spawn() waits for its processes' sentinels and tells who failed."""
    lines = program.run(
        tmp_path,
        """
        import torch.multiprocessing as multiprocessing
        from torch.multiprocessing import ProcessRaisedException

        def work(rank, queue, barrier):
            import multiprocessing
            queue.put((rank, multiprocessing.__name__))
            barrier.wait()
            if rank == 1:
                raise LookupError("rank one")

        if __name__ == "__main__":
            context = multiprocessing.get_context("spawn")
            queue, barrier = context.SimpleQueue(), context.Barrier(2)
            try:
                multiprocessing.spawn(work, args=(queue, barrier), nprocs=2)
            except ProcessRaisedException as e:
                print(e.error_index, "rank one" in str(e))
            print(sorted([queue.get(), queue.get()]))
        """,
        processes=3,
        timeout=TIMEOUT,
    )
    assert lines == ["1 True", "[(0, 'fastmp'), (1, 'fastmp')]"]
