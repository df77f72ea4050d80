"""What an idle object costs: private memory, and shared memory; footprint.py measures it."""

import json
import subprocess
import sys

from .. import footprint
from ..rows import expect, row

MANY = {"Lock": 5000, "Queue": 100, "Pool": 4}


def _idle(kind, which):
    def opened(side):
        def sample(n):
            arguments = [side.module, side.method, kind, str(n)]
            outcome = subprocess.run(
                [sys.executable, "-W", "ignore", "-m", footprint.__name__, *arguments],
                capture_output=True,
                text=True,
            )
            expect((outcome.returncode, outcome.stderr), (0, ""))
            difference, right = json.loads(outcome.stdout)
            expect(right, True)
            return max(1, difference[which])  # none is too little for a ratio

        yield sample

    return opened


for _kind, _count in MANY.items():
    for _which, _what in enumerate(("resident", "shared")):
        row(
            "memory",
            f"Memory: {_what}, an idle {_kind}",
            count=_count,
            quick_count=2,
            unit="byte",
            rounds=3,
        )(_idle(_kind, _which))
