"""Runs mypy --strict and pyright over the programs beside this file: python tests/typing/check.py

fastmp is to them an installed package: tools/lint, whose environment this needs, puts it there.

* uses.py is accepted, and so it is with ``multiprocessing`` in the place of ``fastmp``: whatever
  typeshed's stubs take, fastmp's take;
* extends.py is accepted;
* misuse.py is refused, on each line that is marked so and on no other.

All of it for the oldest and the newest Python that fastmp is for: what a later stdlib has of its
own (``Lock.locked()``) must not contradict what fastmp has always had.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYTHONS = ["3.10", "3.14"]
# pyright: the node of its own that was installed with it; no word about newer versions.
ENVIRONMENT = {
    "PYRIGHT_PYTHON_GLOBAL_NODE": "0",
    "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",
}


def programs():
    """The texts to check, by file name."""
    texts = {name: (HERE / name).read_text() for name in ("uses.py", "extends.py", "misuse.py")}
    texts["uses_stdlib.py"] = texts["uses.py"].replace("fastmp", "multiprocessing")
    return texts


def run(*command, cwd):
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )


def mypy(version, names, folder):
    """(file, line, message) of each error; SystemExit when it could not do its work."""
    options = ["--strict", "--no-error-summary", "--no-pretty", "--python-version", version]
    done = run("mypy", *options, *names, cwd=folder)
    errors = re.findall(r"^(.+?):(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    if done.returncode not in (0, 1) or bool(errors) != bool(done.returncode):
        sys.exit(f"mypy failed:\n{done.stdout}")
    return [(file, int(line), message) for file, line, message in errors]


def pyright(version, names, folder):
    """The same of pyright, in its standard mode."""
    options = ["--outputjson", "--pythonversion", version, "--pythonpath", sys.executable]
    done = run("pyright", *options, *names, cwd=folder)
    try:
        found = json.loads(done.stdout[done.stdout.index("{") :])["generalDiagnostics"]
    except ValueError:
        sys.exit(f"pyright failed:\n{done.stdout}")
    return [
        (Path(d["file"]).name, d["range"]["start"]["line"] + 1, d["message"])
        for d in found
        if d["severity"] == "error"
    ]


def complaints(checker, version, texts, folder):
    """What is wrong with the errors that *checker* finds: one where none is due, or none."""
    found = checker(version, sorted(texts), folder)
    due = {
        (file, number)
        for file, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if line.endswith("# refused")
    }
    for file, line, message in found:
        if (file, line) not in due:
            yield f"{file}:{line}: {message}"
    for file, line in sorted(due - {(file, line) for file, line, _ in found}):
        yield f"{file}:{line}: is not refused"


def main():
    texts = programs()
    assert texts["misuse.py"].count("# refused\n") > 20
    status = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            Path(folder, name).write_text(text)
        for checker in (mypy, pyright):
            for version in PYTHONS:
                for complaint in complaints(checker, version, texts, folder):
                    print(f"{checker.__name__} for {version}: {complaint}")
                    status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
