"""What every scenario has: it makes its objects, casts its processes, ends them, and audits."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from tests.support import procs

from . import ledger
from .ledger import Kind
from .storm import BOUND, Crew, Member


class Scenario:
    """A storm's subject. `rng` is the round's, so that a seed chooses the variant too."""

    name = "?"
    roles: tuple[str, ...] = ()

    def __init__(self, ctx: Any, rng: random.Random) -> None:
        self.ctx = ctx
        self.random = rng
        self.variant = ""
        self.summary = ""
        self.create()

    def create(self) -> None:
        """Make what the processes share."""

    def cast(self, crew: Crew) -> None:
        """Start the processes."""
        raise NotImplementedError

    def replace(self, crew: Crew, member: Member) -> None:
        """A member has ended in the storm: start another."""
        crew.replace(member)

    def tend(self, crew: Crew) -> None:
        """Called after each signal."""

    def victims(self, crew: Crew, roles: set[str] | None) -> list[tuple[int, procs.Proc]]:
        """Whom a signal may hit: (index of the member or 0, process). None: any role."""
        return [
            (member.index, member.proc)
            for member in crew.living()
            if member.proc is not None and (roles is None or member.role in roles)
        ]

    def finish(self, crew: Crew) -> None:
        """The storm is over and all were told so: see to it that they end, in bounded time."""
        crew.wait(crew.living(), BOUND)

    def audit(self, crew: Crew) -> Iterator[str]:
        """The violations that the ledgers show."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what `create` made."""


def count(crew: Crew, kind: Kind, *roles: str) -> int:
    """How many records of a kind the members have written."""
    return sum(
        record.kind == kind
        for member in crew.members
        if not roles or member.role in roles
        for record in ledger.read(crew.where, member.index)
    )


def dead(crew: Crew, *roles: str) -> int:
    """How many members of these roles, or of all, were killed."""
    return sum(member.killed and (not roles or member.role in roles) for member in crew.members)
