"""The README's code runs and does what it says."""

import re

import pytest

from tests.support.documents import ROOT
from tests.support.programs import environment, run

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_usage(tmp_path):
    script = tmp_path / "usage.py"
    script.write_text(BLOCKS[0])
    outcome = run([script], environment())
    assert outcome.err == ""
    assert outcome.out.splitlines() == [str([x * x for x in range(10)]), "499500", "64 True"]
    assert outcome.code == 0


def test_install(tmp_path):
    script = tmp_path / "install.py"
    script.write_text(BLOCKS[1] + "import multiprocessing\nprint(multiprocessing.__name__)\n")
    outcome = run([script], environment())
    assert (outcome.out, outcome.err, outcome.code) == ("fastmp\n", "", 0)


@pytest.mark.parametrize(
    "target", re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(), re.M)
)
def test_commands_exist(target):
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(), re.M)


def test_blocks_are_known():
    assert len(BLOCKS) == 2
