"""Who takes part: the standard library, fastmp, the peers, the limits of the machine."""

import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass, replace

PACKAGE, PEER, LIMIT = "package", "peer", "limit"


@dataclass(frozen=True)
class Side:
    """One that does a row, under one start method.

    A `package` has multiprocessing's interface and does every row's own way; a `peer` does those
    that it brings a way for, and a `limit` is what the machine takes for the least of the work.
    `restless`: burns the processor while it waits, so it is stopped while others have their turn.
    """

    name: str
    kind: str
    module: str | None = None
    distribution: str | None = None
    restless: bool = False
    method: str = "fork"
    quick: bool = False

    @property
    def is_package(self):
        return self.kind == PACKAGE

    @property
    def is_fastmp(self):
        return self.name == "fastmp"

    def context(self, method=None):
        return importlib.import_module(self.module).get_context(method or self.method)

    def version(self):
        """What is installed of it, or None."""
        if self.distribution is None:
            return "" if importlib.util.find_spec(self.module) else None
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None

    def under(self, method, quick):
        return replace(self, method=method, quick=quick)


STDLIB = Side("stdlib", PACKAGE, "multiprocessing")
FASTMP = Side("fastmp", PACKAGE, "fastmp")

PEERS = {
    side.name: side
    for side in (
        Side("concurrent.futures", PEER, "concurrent.futures"),
        Side("billiard", PACKAGE, "billiard", "billiard"),
        Side("multiprocess", PACKAGE, "multiprocess", "multiprocess"),
        Side("faster-fifo", PEER, "faster_fifo", "faster-fifo"),
        Side("pyzmq", PEER, "zmq", "pyzmq"),
        Side("iceoryx2", PEER, "iceoryx2", "iceoryx2", restless=True),
        Side("joblib", PEER, "joblib", "joblib"),
        Side("loky", PEER, "loky", "loky"),
        Side("mpire", PEER, "mpire", "mpire"),
        Side("pebble", PEER, "pebble", "Pebble"),
        Side("ray", PEER, "ray", "ray", restless=True),
        Side("torch", PEER, "torch.multiprocessing", "torch"),
    )
}


def limit(name):
    return Side(name, LIMIT)


def peers_named(text):
    """The peers of "all" or of "ray,pyzmq"; ValueError names one that nobody knows."""
    if text == "all":
        return list(PEERS.values())
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in PEERS:
            raise ValueError(f"no peer is called {name!r}; there are all, {', '.join(PEERS)}")
    return [PEERS[name] for name in names]
