"""The differences from the stdlib that are known, each with its reason.

A difference that no entry names fails the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Allowed:
    """Ids that may pass on the stdlib and not on fastmp."""

    ids: str  # a pattern
    reason: str
    unless: str = ""  # what the failure's text may not contain

    def covers(self, test_id: str, text: str) -> bool:
        """Whether that failure of that id is one of them."""
        return fnmatchcase(test_id, self.ids) and not (self.unless and self.unless in text)


ALLOWED = (
    Allowed(
        "*.TestResourceTracker.test_resource_tracker",
        "unlinks a lock's named POSIX semaphore; fastmp's locks lie in anonymous memory and have "
        "no name (its other half, about shared_memory, passes)",
        unless="rtype='shared_memory'",
    ),
    Allowed(
        "*.TestResourceTracker.test_resource_tracker_sigkill",
        "expects that making a Semaphore finds the resource tracker dead; fastmp's semaphores "
        "have nothing that a tracker would have to clean up, and never ask it",
    ),
)


def names(test_id: str) -> bool:
    """Whether there are failures of that id that are allowed."""
    return any(fnmatchcase(test_id, each.ids) for each in ALLOWED)
