"""The stepper's mutants fit the sources: each changes one place, for scenarios that there are.

Whether the stepper catches them is `make crash`'s to show.
"""

from pathlib import Path

import pytest

from tests.crash.mutants import MUTANTS, NO_TICKS, TICKS

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.once("about the sources")

SCENARIOS = "".join(path.read_text() for path in (ROOT / "tests/crash").glob("*.c"))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_applies(mutant):
    text = (ROOT / "csrc" / mutant.file).read_text()
    assert text.count(mutant.old) == 1 and mutant.old != mutant.new
    variant, *scenarios = mutant.caught_by
    assert variant in (TICKS, NO_TICKS) and scenarios
    for name in scenarios:
        assert f'.name = "{name}"' in SCENARIOS


def test_each_has_a_name_of_its_own():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
