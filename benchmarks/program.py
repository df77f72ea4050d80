"""What the processes that a row spawns take for their parent's program: it imports its package."""

import importlib
import os

importlib.import_module(os.environ["BENCHMARKS_PACKAGE"])
