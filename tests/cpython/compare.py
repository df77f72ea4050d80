"""The two sides of a suite held against each other, id by id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .allowed import ALLOWED, Allowed
from .side import FAILED, PASSED, REPEATED, SKIPPED, Result

_RANK = {PASSED: 0, REPEATED: 0, SKIPPED: 1, FAILED: 2}


@dataclass(frozen=True)
class Difference:
    """An id that came out worse on fastmp than on the stdlib."""

    test_id: str
    on_stdlib: str
    on_fastmp: str
    text: str
    allowed: str = ""  # the reason, if it is


@dataclass
class SuiteReport:
    """A suite on one Python: both sides."""

    suite: str
    python: str  # "3.13"
    release: str  # "3.13.0"
    stdlib: Result
    fastmp: Result
    imports: bool = True  # whether fastmp must have been imported in it
    lender: str = ""  # the Python whose tests they are, if another's

    def differences(self, allowed: Sequence[Allowed] = ALLOWED) -> list[Difference]:
        """The ids that came out worse, those that are allowed too."""
        found = []
        for test_id, theirs in self.stdlib.outcomes.items():
            ours = self.fastmp.outcomes[test_id]
            if _RANK[ours.outcome] > _RANK[theirs.outcome]:
                reason = next(
                    (each.reason for each in allowed if each.covers(test_id, ours.text)), ""
                )
                found.append(Difference(test_id, theirs.outcome, ours.outcome, ours.text, reason))
        return found

    def complaints(self, allowed: Sequence[Allowed] = ALLOWED) -> list[str]:
        """What makes the run fail, in words."""
        found = [
            f"{each.test_id}: {each.on_stdlib} / {each.on_fastmp}\n{each.text}"
            for each in self.differences(allowed)
            if not each.allowed
        ]
        if self.fastmp.altered and not self.stdlib.altered:
            found.append("the tests left processes, threads or files behind on fastmp alone")
        return found + self._accusations()

    def _accusations(self) -> list[str]:
        """What the witness has against the run."""
        it = self.fastmp.testimony
        if it is None or not it.processes:
            return ["no process told what its multiprocessing was"]
        if self.imports and not it.on_fastmp:
            return ["no process had fastmp as multiprocessing"]
        found = [f"had the stdlib as multiprocessing: {each}" for each in it.on_stdlib]
        return found + [f"did not tell what its multiprocessing was: {each}" for each in it.unseen]

    def as_json(self) -> dict[str, Any]:
        """What `from_json` takes back."""
        return {**vars(self), "stdlib": self.stdlib.as_json(), "fastmp": self.fastmp.as_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> SuiteReport:
        """The report that `as_json` gave."""
        sides = {side: Result.from_json(data[side]) for side in ("stdlib", "fastmp")}
        return cls(**{**data, **sides})
