"""The documents' examples do the same under fastmp as under the standard library.

Each is run as `python script.py` and `python -m fastmp script.py`, and once more with its imports
changed to `import fastmp as multiprocessing`, under each start method. Streams and exit code must
be the same: line by line where the program determines the order, as a bag of lines where its
processes print at the same time.
"""

import re

import pytest

from tests.support import documents
from tests.support.programs import environment, run_beside_each_other

METHODS = ["fork", "spawn", "forkserver"]
SLEEP = (
    "0.05"  # the examples sleep for minutes in all, to no other end than to show that they overlap
)

PROBE = """\
import multiprocessing

def show(where):
    method = multiprocessing.get_start_method()
    print(where, multiprocessing.__name__, method, multiprocessing.Process.__module__)

if __name__ == "__main__":
    show("parent")
    child = multiprocessing.Process(target=show, args=("child",))
    child.start()
    child.join()
"""


def with_imports_changed(code):
    code = re.sub(
        r"^import multiprocessing$", "import fastmp as multiprocessing", code, flags=re.MULTILINE
    )
    return re.sub(r"^from multiprocessing import", "from fastmp import", code, flags=re.MULTILINE)


def compared(name, outcome):
    out = documents.masked_lines(outcome.out)
    err = documents.masked_lines(documents.without_frames(outcome.err))
    if name not in documents.ORDERED:
        out, err = sorted(out), sorted(err)
    return {"exit code": outcome.code, "stdout": out, "stderr": err}


def runs_of(script, changed, method):
    """The same program under the standard library and, in two ways, under fastmp."""

    def env(path):
        return environment(
            FASTMP_TEST_LINES="1",
            FASTMP_TEST_SLEEP=SLEEP,
            FASTMP_TEST_SCRIPT=str(path),
            FASTMP_TEST_METHOD=method,
        )

    return {
        "stdlib": ([script], env(script)),
        "python -m fastmp": (["-m", "fastmp", script], env(script)),
        "import fastmp as multiprocessing": ([changed], env(changed)),
    }


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", documents.example_names())
def test_example(name, method, tmp_path):
    script = documents.example_path(name)
    changed = tmp_path / script.name
    changed.write_text(with_imports_changed(script.read_text(encoding="utf-8")), encoding="utf-8")
    assert "import multiprocessing" not in changed.read_text(encoding="utf-8").replace(
        "fastmp as", ""
    )
    assert "fastmp" in changed.read_text(encoding="utf-8")

    outcomes = run_beside_each_other(runs_of(script, changed, method))
    expected = compared(name, outcomes["stdlib"])
    assert expected["stdout"] or name == "tutorial_0_syntax"
    for way, outcome in outcomes.items():
        assert compared(name, outcome) == expected, f"{way}:\n{outcome.out}\n{outcome.err}"
        if name == "guide_3_queue":
            check_drawn_numbers(outcome.out)


def check_drawn_numbers(out):
    """What the comparison masks: the consumer gets the producer's numbers, in order."""
    put = re.findall(r"putting (\d+) into", out)
    got = re.findall(r"got (\d+)\. Squaring it to get (\d+)", out)
    assert len(put) == 5
    assert [number for number, _ in got] == put
    assert all(int(number) ** 2 == int(square) for number, square in got)


@pytest.mark.parametrize("method", METHODS)
def test_runs_are_what_they_claim(method, tmp_path):
    """Each way has the start method asked for and the package it says, in the child too."""
    script, changed = tmp_path / "probe.py", tmp_path / "changed.py"
    script.write_text(PROBE, encoding="utf-8")
    changed.write_text(with_imports_changed(PROBE), encoding="utf-8")
    for way, outcome in run_beside_each_other(runs_of(script, changed, method)).items():
        assert outcome.code == 0, outcome.err
        lines = [line.split() for line in outcome.out.splitlines()]
        assert [where for where, *_ in lines] == ["parent", "child"]
        package = "multiprocessing" if way == "stdlib" else "fastmp"
        for _, name, started_by, module in lines:
            assert (name, started_by) == (package, method), way
            assert module.split(".")[0] == package, way


@pytest.fixture(scope="module")
def document_blocks():
    if documents.DOCUMENTS is None:
        pytest.skip(
            "the documents (shared/seeds beside or above the clone) are not on this machine"
        )
    return {
        path.name: documents.document_blocks(path.read_text(encoding="utf-8"))
        for path in sorted(documents.DOCUMENTS.glob("*.txt"))
    }


def test_each_block_of_the_documents_is_an_example(document_blocks):
    """No code of a document is missing among the examples, nor changed in them."""
    examples = {}
    for name in documents.example_names():
        document, _, code = documents.example_blocks(name)[-1]
        examples.setdefault(document, []).append(as_in_document(document, code))
    assert {document: sorted(blocks) for document, blocks in examples.items()} == {
        document: sorted(blocks) for document, blocks in document_blocks.items()
    }


@pytest.mark.parametrize("name", documents.example_names())
def test_each_line_of_an_example_is_its_document_s(name, document_blocks):
    """The blocks before an example's own, too, which hold what an earlier cell had imported."""
    for document, place, code in documents.example_blocks(name):
        assert any(
            as_in_document(document, code) in block for block in document_blocks[document]
        ), place


def as_in_document(document, code):
    if document != documents.UNINDENTED:
        return code
    return "".join(line.lstrip() for line in code.splitlines(keepends=True))
