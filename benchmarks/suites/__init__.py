"""The rows, by what they are about. Each module registers its own when it is imported.

SHORT is what `python -m benchmarks` measures in a few minutes when it is not told which.
"""

from . import (  # noqa: F401
    channels,
    crowds,
    growth,
    large,
    locks,
    memory,
    pools,
    processes,
    programs,
    published,
    values,
)

SHORT = ("lock", "value", "array", "queue", "pipe", "large", "process", "pool", "manager")
NAMES = (*SHORT, "memory", "crowd", "program", "published", "growth")
