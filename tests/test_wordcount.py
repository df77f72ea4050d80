"""The main job, examples/wordcount.py: it counts what it says, and says when an answer is wrong."""

import importlib.util
import io
import re
import sys
import sysconfig
import tokenize
from collections import Counter
from pathlib import Path

import pytest

from tests.support.documents import ROOT
from tests.support.programs import environment, run

WORDCOUNT = ROOT / "examples" / "wordcount.py"
METHODS = ["fork", "spawn", "forkserver"]

SOURCE = '''\
# a comment with if and words
import os, sys as système
"""A doc string, "quoted" 'words' \\""" and more"""
def f(x, *, f_=rb'raw \\' bytes', n=0x1Fp if 0 else 1e10j):
    return f"{x!r} inside" + x.real + 'a\\
continued' + u"" + Rb"""b"""
match = None; naïve = 3.14e-7; x = 0b1_0 + 1_000.5
'''
EXPECTED = (
    "os sys système f x f_ n p x real match naïve x",
    "import as def if else return None",
)


@pytest.fixture(scope="module")
def wordcount():
    spec = importlib.util.spec_from_file_location("wordcount_under_test", WORDCOUNT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path):
    """A folder with text, an encoding declared, three files that do not decode, and no Python."""
    root = tmp_path / "tree"
    (root / "package").mkdir(parents=True)
    (root / "text.py").write_text(SOURCE, encoding="utf-8")
    (root / "empty.py").write_bytes(b"")
    latin = "# -*- coding: latin-1 -*-\nété = alpha = 1\n"
    (root / "package" / "latin.py").write_bytes(latin.encode("latin-1"))
    (root / "package" / "not_utf8.py").write_bytes(b"caf\xe9 = 1\n")
    (root / "package" / "no_such_coding.py").write_bytes(b"# coding: klingon\nx = 1\n")
    (root / "package" / "cut.py").write_bytes("naïve = 'é".encode()[:-1])
    (root / "package" / "notes.txt").write_text("not counted")
    for number in range(40):
        (root / f"many_{number}.py").write_text(f"alpha_{number} = alpha = {number}\n" * 50)
    return root


def count(tree, *options, mode=()):
    return run([*mode, WORDCOUNT, "--root", tree, *options], environment())


def test_identifiers(wordcount):
    words, keywords = EXPECTED
    assert wordcount.identifiers(SOURCE) == Counter(words.split())
    assert set(keywords.split()) <= wordcount.NOT_IDENTIFIERS


def tokenized(text):
    """The same from the tokenize module; what stands inside f-strings is left out."""
    start, end = getattr(tokenize, "FSTRING_START", None), getattr(tokenize, "FSTRING_END", None)
    inside, names = 0, []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        inside += (token.type == start) - (token.type == end)
        if token.type == tokenize.NAME and not inside:
            names.append(token.string)
    return names


def test_identifiers_are_those_of_tokenize(wordcount):
    """On the standard library's own packages of everyday code."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    paths = [path for name in ("json", "email", "asyncio") for path in (stdlib / name).glob("*.py")]
    assert len(paths) > 40
    for path in paths:
        text = path.read_text(encoding="utf-8")
        expected = Counter(
            word for word in tokenized(text) if word not in wordcount.NOT_IDENTIFIERS
        )
        assert wordcount.identifiers(text) == expected, path


@pytest.mark.parametrize("method", METHODS)
def test_job(tree, method):
    outcome = count(tree, "--method", method, "--processes", "3", "--rounds", "2", "--top", "3")
    assert outcome.code == 0, outcome.err
    files = 46
    assert outcome.out.startswith(f"{files} files (3 undecodable) below {tree}\n")
    total = 13 + 2 + 40 * 100
    assert f"\n{total} identifiers, " in outcome.out
    assert re.search(r"commonest:\n +2001 alpha\n +50 alpha_0\n +50 alpha_1\n", outcome.out)
    assert f"\n{method}, 3 processes, median of 2:\n" in outcome.out
    assert outcome.out.endswith("each answer equals the single process's\n")
    progress = f"{files} of {files} files"
    assert outcome.err.splitlines() == [
        f"{label}: {progress}"
        for label in ("multiprocessing", "fastmp", "fastmp", "multiprocessing")
    ]


def test_wrong_answer(wordcount, tree, monkeypatch, capsys):
    """A job that loses a file's count ends with exit code 1 and says whose it was."""

    def losing(context, processes, paths, label):
        counted = map(wordcount.count_file, paths if label == "multiprocessing" else paths[:-1])
        return wordcount.merged(counted)

    monkeypatch.setattr(wordcount, "count_in_pool", losing)
    monkeypatch.setattr(sys, "argv", ["wordcount.py", "--root", str(tree), "--rounds", "1"])
    assert wordcount.main() == 1
    assert capsys.readouterr().out.endswith("not the single process's answer: fastmp\n")


def test_bad_options(tree, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert count(empty).code == 2
    assert count(tree, "--processes", "0").code == 2
    assert count(tree, "--method", "thread").code == 2
    on_fastmp = count(tree, mode=["-m", "fastmp"])
    assert on_fastmp.code == 2
    assert "without `-m fastmp`" in on_fastmp.err
