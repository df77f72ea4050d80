"""torch.multiprocessing: a tensor goes as a handle on shared memory."""

import importlib

from ..rows import way
from ..suites import large
from .children import FORK, child


def _torch_swallow(inbox, conn):
    large.swallow(lambda: None if (got := inbox.get()) is None else got.numpy(), conn)


def _torch_large(kind):
    """Each is a copy, as with everybody else: the sender may go on with its own."""

    def opened(side):
        torch = importlib.import_module("torch")
        context = importlib.import_module("torch.multiprocessing").get_context("fork")
        tensor = torch.from_numpy(large.numpy_array(large.size_for(side)))
        conn, far = FORK.Pipe()
        inbox = getattr(context, kind)()
        with child(_torch_swallow, inbox, far):
            yield large.handing_over(lambda _: inbox.put(tensor.clone()), conn, tensor.numpy())
            inbox.put(None)

    return opened


for _name in large.NAMES:
    if "numpy" in _name:
        way(_name, "torch")(_torch_large("Queue" if _name.startswith("Queue") else "SimpleQueue"))
