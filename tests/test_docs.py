"""The documents name files that exist and `make` tasks that there are."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.once("about the documents")

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
IN_THE_TREE = re.compile(r"(csrc|fastmp|tests|tools|examples|benchmarks|docs|\.ci)/[\w./*-]*\w")


def names_in(text):
    """What a document names: (links, files in backquotes, make tasks in backquotes or blocks)."""
    links = re.findall(r"\]\((?!\w+:)([^)#]+)[^)]*\)", text)
    quoted = re.findall(r"`([^`\n]+)`", text)
    files = [name for name in quoted if IN_THE_TREE.fullmatch(name)]
    tasks = re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE)
    return links, files, tasks


def make_tasks():
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_names_what_exists(document):
    links, files, tasks = names_in(document.read_text())
    missing = [link for link in links if not (document.parent / link).exists()]
    missing += [name for name in files if not any(ROOT.glob(name))]
    missing += [f"make {task}" for task in tasks if task not in make_tasks()]
    assert not missing


def test_the_search_finds_names():
    links, files, tasks = names_in(
        "see [a](docs/x.md#part), [b](https://example.org/), `csrc/base/x.c`, `fastmp/*.py`,\n"
        "`a/b`; "
        "`make test PY=3.13`\nmake demo   # does\n"
    )
    assert links == ["docs/x.md"]
    assert files == ["csrc/base/x.c", "fastmp/*.py"]
    assert tasks == ["test", "demo"]


def test_make_help_lists_every_task():
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE).group(1).split()
    explained = re.findall(r"^([a-z]+):.*## ", text, re.MULTILINE)
    assert sorted(phony) == sorted(explained) == sorted(make_tasks())
