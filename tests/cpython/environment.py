"""The Python under test: an environment of the interpreter with fastmp and the recorder in it.

Made by ``venv`` without pip, and anew for each run.  Its site-packages hold copies of this tree's
fastmp, with its core as built in place, of the start-up hook and its .pth file, as an installation
does, and of the two modules that work inside.  So nothing needs installing, and a run of an hour is
about one state of the tree.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
HERE = Path(__file__).resolve().parent
BUILD = ROOT / "build" / "cpython"

_FILES = {
    "_fastmp_hook.py": ROOT / "_fastmp_hook.py",
    "fastmp.pth": ROOT / "fastmp.pth",
    "fastmp_cpython_inside.py": HERE / "inside.py",
    "fastmp_cpython_recorder.py": HERE / "recorder.py",
}
_RECORDER_PTH = (
    'import os; os.environ.get("FASTMP_CPYTHON_LOG") and __import__("fastmp_cpython_recorder")\n'
)


class NotAvailable(Exception):
    """There is no such Python here, or fastmp is not built for it."""


@dataclass(frozen=True)
class Interpreter:
    """The Python under test."""

    version: str  # "3.13"
    release: str  # "3.13.0"
    executable: Path
    site: Path

    def variables(self, **more: str) -> dict[str, str]:
        """Its environment: nothing of ours or of Python's own gets through, but *more*."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FASTMP_", "PYTHON", "VIRTUAL_ENV"))
        }
        return {**kept, **more}

    def has_module(self, name: str) -> bool:
        """Whether the interpreter brings the module along: builds leave out parts of ``test``."""
        code = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
        command = [str(self.executable), "-c", code, name]
        return subprocess.run(command, env=self.variables(), check=False).returncode == 0

    def borrow(self, name: str) -> tuple[str, tuple[str, ...]]:
        """Copy a part of ``test`` from a Python that has it: (its version, the modules' names).

        The nearest older one, whose tests need no more than this one's ``test.support`` has, else
        the nearest newer.  Nothing if there is none.
        """
        own = PYTHONS.index(self.version)
        for version in (*reversed(PYTHONS[: own + 1]), *PYTHONS[own + 1 :]):
            try:
                base = _base_python(version)
            except NotAvailable:
                continue
            source = Path(_ask(base, "import test; print(test.__path__[0])"), name)
            if source.is_dir():
                shutil.copytree(source, self.site / name, ignore=_is_needless(""))
                return version, tuple(f"{name}.{path.stem}" for path in source.glob("test_*.py"))
            if source.with_suffix(".py").exists():
                shutil.copy(source.with_suffix(".py"), self.site)
                return version, (name,)
        return "", ()

    def offer(self, name: str, text: str) -> None:
        """Make a module of that name and text importable."""
        (self.site / f"{name}.py").write_text(text, encoding="utf-8")


def _ask(python: str | Path, code: str) -> str:
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _base_python(version: str) -> str:
    tool = subprocess.run(
        [str(ROOT / "tools" / "pythons"), version], capture_output=True, text=True, check=False
    )
    if tool.returncode != 0 or not tool.stdout:
        raise NotAvailable(f"no CPython {version} on this machine")
    return tool.stdout.split(maxsplit=1)[1].strip()


def _is_needless(core: str) -> Callable[[str, list[str]], list[str]]:
    """For copytree(): other Pythons' cores, and what is compiled."""

    def needless(directory: str, names: list[str]) -> list[str]:
        return [n for n in names if n == "__pycache__" or (n.endswith(".so") and n != core)]

    return needless


def build(version: str) -> None:
    """Bring the core for that Python up to date."""
    command = ["make", "--no-print-directory", "-C", str(ROOT), "build", f"PY={version}"]
    if subprocess.run(command, check=False).returncode != 0:
        raise NotAvailable(f"fastmp could not be built for CPython {version}")


def make(version: str, directory: Path) -> Interpreter:
    """Make the environment for that version; :exc:`NotAvailable` says why there is none."""
    base = _base_python(version)
    suffix = _ask(base, "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))")
    if not (ROOT / "fastmp" / f"_core{suffix}").exists():
        raise NotAvailable(
            f"fastmp is not built for CPython {version}: `make build PY={version}` does it"
        )
    subprocess.run([base, "-m", "venv", "--without-pip", str(directory)], check=True)
    python = directory / "bin" / "python"
    site = Path(_ask(python, "import sysconfig; print(sysconfig.get_path('purelib'))"))
    shutil.copytree(ROOT / "fastmp", site / "fastmp", ignore=_is_needless(f"_core{suffix}"))
    for name, source in _FILES.items():
        shutil.copyfile(source, site / name)
    (site / "fastmp_cpython_recorder.pth").write_text(_RECORDER_PTH)
    release = _ask(python, "import platform; print(platform.python_version())")
    return Interpreter(version, release, python, site)
