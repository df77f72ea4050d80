"""What is broken on purpose, and which scenario of the stepper has to notice.

A mutant is one textual change of a copy of csrc/. Its old text must occur exactly once, so a
change of the sources that makes a mutant meaningless is an error, not a mutant that is missed.
"""

from typing import NamedTuple

TICKS, NO_TICKS = "ticks", "noticks"


class Mutant(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    #: (variant, scenario, ...): these are run, and one of them has to report violations
    caught_by: tuple[str, ...]
    quick: bool = False  # in CI too


MUTANTS: list[Mutant] = [
    Mutant(
        "lock: a dead holder's lock is taken over without comparing",
        "sync/userlock.c",
        "!atomic_compare_exchange_strong(&l->word, &held, tag)) {",
        "(atomic_store(&l->word, tag), false)) {",
        (TICKS, "lock"),
    ),
]
