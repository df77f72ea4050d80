"""The tests of fastmp; a package, so that spawned children can import the modules by name."""

import os
import sys

if "PYTEST_CURRENT_TEST" in os.environ and "pytest" not in sys.modules:
    from tests.support import light_pytest

    light_pytest.install()
