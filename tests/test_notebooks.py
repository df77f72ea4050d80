"""The documents' examples as notebooks: in a real Jupyter kernel, after `fastmp.install()`.

One notebook per document, one cell per example, in the document's order and in one kernel, as its
readers have them. Each runs twice: in a plain kernel, and in one whose first cell is `import
fastmp; fastmp.install()`. Each cell must put out the same. Forked children only: what a notebook's
cell defines cannot be imported by a spawned one, and under the standard library such a pool never
ends.
"""

import json
import sys

import pytest

from tests.support import documents
from tests.support.programs import environment, run_beside_each_other

pytest.importorskip("nbclient", reason="nbclient is not installed")
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")

KERNEL = "this-python"
FIRST_CELL = {"stdlib": "pass", "fastmp": "import fastmp; fastmp.install()"}
# Two habits of Jupyter's, whatever multiprocessing is: what a child prints comes to the notebook by
# way of the kernel, and is lost if the cell's end was announced before, so each cell ends a moment
# later (in truth a twentieth of what it says); and a child sends the text and the newline of a
# print() one by one, which mixes up lines that are printed at the same time.
SECOND_CELL = """\
import builtins, multiprocessing, sys, time
multiprocessing.set_start_method("fork")
get_ipython().events.register("post_run_cell", lambda result: time.sleep(8))
def print_at_once(*things, sep=" ", end="\\n", file=None):
    (file or sys.stdout).write(sep.join(map(str, things)) + end)
builtins.print = print_at_once
"""
LAST_CELL = """\
import multiprocessing.synchronize
from multiprocessing import Lock, Process
def whose(where):
    for thing in (multiprocessing.__name__, Process.__module__, type(Lock()).__module__):
        print(where, thing.split(".")[0])
whose("kernel")
child = Process(target=whose, args=("child",))
child.start()
child.join()
"""
# In a process of its own, so that its event loop and sockets are none of the test's.
EXECUTE = """\
import sys, jupyter_client, nbclient, nbformat
path, kernel = sys.argv[1:]
notebook = nbformat.read(path, as_version=4)
# Sockets that have names: a port that was free when it was looked up may be another's by now.
manager = jupyter_client.AsyncKernelManager(kernel_name=kernel, transport="ipc", ip=path)
nbclient.NotebookClient(notebook, km=manager, timeout=30, allow_errors=True).execute()
nbformat.write(notebook, path)
"""


def notebooks():
    """The examples of each document, by the first word of their names."""
    titles = {}
    for name in documents.example_names():
        titles.setdefault(name.split("_")[0], []).append(name)
    return titles


def write_notebook(path, way, names):
    sources = [FIRST_CELL[way], SECOND_CELL]
    sources += [documents.example_blocks(name)[-1][2] for name in names]
    sources.append(LAST_CELL)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    nbformat.write(notebook, path)


@pytest.fixture
def jupyter(tmp_path):
    """Variables that give Jupyter nothing but a kernel of this very Python, and room of its own."""
    folder = tmp_path / "data" / "kernels" / KERNEL
    folder.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": KERNEL, "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    return {
        "JUPYTER_PATH": str(tmp_path / "data"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_PLATFORM_DIRS": "1",
    }


def execute(tmp_path, jupyter, names):
    """Run the notebook in both ways at once; for each way, its cells after execution."""
    paths = {way: tmp_path / f"{way}.ipynb" for way in FIRST_CELL}
    for way, path in paths.items():
        write_notebook(path, way, names)
    env = environment(FASTMP_TEST_SLEEP="0.05", **jupyter)
    runs = {way: (["-c", EXECUTE, path, KERNEL], env) for way, path in paths.items()}
    for way, outcome in run_beside_each_other(runs).items():
        assert outcome.code == 0, f"{way}:\n{outcome.err}"
    return {way: nbformat.read(path, as_version=4).cells for way, path in paths.items()}


def compared(cell, ordered):
    """A cell's streams, each whole, and its error, if it ended in one."""
    streams, error = {"stdout": "", "stderr": ""}, None
    for output in cell.outputs:
        if output.output_type == "stream":
            streams[output.name] += output.text
        else:
            assert output.output_type == "error" and error is None, output
            error = output.ename, output.evalue
    lines = {
        name: documents.masked_lines(documents.without_frames(text))
        for name, text in streams.items()
    }
    if not ordered:
        lines = {name: sorted(found) for name, found in lines.items()}
    return {**lines, "error": error}


@pytest.mark.parametrize("title", sorted(notebooks()))
def test_notebook(title, tmp_path, jupyter):
    names = notebooks()[title]
    cells = execute(tmp_path, jupyter, names)
    for way, (first, second, *_, last) in cells.items():
        assert first.outputs == second.outputs == [], way
        package = "multiprocessing" if way == "stdlib" else "fastmp"
        found = compared(last, ordered=True)["stdout"]
        assert found == [f"{where} {package}" for where in ("kernel", "child") for _ in range(3)]
    for name, expected, got in zip(names, cells["stdlib"][2:], cells["fastmp"][2:], strict=False):
        ordered = name in documents.ORDERED
        assert expected.outputs, name
        assert compared(got, ordered) == compared(expected, ordered), name
