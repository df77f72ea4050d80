"""Every name of the stdlib's multiprocessing is here, and is called the same way.

For each module the names are compared, then, for everything public, the signatures: of functions,
of classes and of their methods.  fastmp may add parameters, as long as every call that the stdlib
takes means the same: what it adds is keyword-only or comes last, and has a default.
"""

import ctypes
import importlib
import inspect
import multiprocessing
import os
import pkgutil
import subprocess
import sys

import pytest

import fastmp

STDLIB = [""] + [f".{m.name}" for m in pkgutil.iter_modules(multiprocessing.__path__)]
MODULES = [name for name in STDLIB + [".dummy.connection"] if name != ".popen_spawn_win32"]
SHARED = [
    ".dummy",
    ".dummy.connection",
    ".forkserver",
    ".heap",
    ".managers",
    ".popen_fork",
    ".popen_forkserver",
    ".popen_spawn_posix",
    ".process",
    ".reduction",
    ".resource_sharer",
    ".resource_tracker",
    ".shared_memory",
    ".spawn",
    ".util",
]
OVERRIDDEN = sorted(set(MODULES) - set(SHARED))
Parameter = inspect.Parameter
ANY_NUMBER = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def both(name):
    return (
        importlib.import_module("multiprocessing" + name),
        importlib.import_module("fastmp" + name),
    )


def public(names):
    return [name for name in names if not name.startswith("_")]


def parameters(function):
    """The parameters of a callable but self, or None if it does not tell."""
    try:
        found = list(inspect.signature(function).parameters.values())
    except ValueError:
        return None
    return found[1:] if found and found[0].name == "self" else found


def same_parameter(theirs, ours):
    """Whether they are the same, but that ours may have a default where theirs is required."""
    return (
        theirs.name == ours.name
        and theirs.kind == ours.kind
        and (theirs.default is Parameter.empty or repr(theirs.default) == repr(ours.default))
    )


def takes_all_calls(theirs, ours):
    """Whether a callable with the parameters *ours* takes every call for *theirs*, alike."""
    theirs = sorted(theirs, key=lambda p: p.kind is Parameter.KEYWORD_ONLY)
    named = [p for p in ours if p.kind is not Parameter.KEYWORD_ONLY]
    expected = [p for p in theirs if p.kind is not Parameter.KEYWORD_ONLY]
    extra = named[len(expected) :]
    if len(named) < len(expected) or not all(map(same_parameter, expected, named)):
        return False
    keywords = {p.name: p for p in ours if p.kind is Parameter.KEYWORD_ONLY}
    for p in theirs[len(expected) :]:
        if p.name not in keywords or not same_parameter(p, keywords.pop(p.name)):
            return False
    added = [*extra, *keywords.values()]
    return all(p.default is not Parameter.empty or p.kind in ANY_NUMBER for p in added)


def compare_call(label, theirs, ours):
    expected = parameters(theirs)
    if expected is None:
        return
    found = parameters(ours)
    if found is None:
        yield f"{label}: has no signature, the stdlib's is {inspect.signature(theirs)}"
    elif not takes_all_calls(expected, found):
        yield f"{label}: {inspect.signature(ours)}, the stdlib's is {inspect.signature(theirs)}"


def compare_class(label, theirs, ours):
    if issubclass(theirs, (BaseException, ctypes._SimpleCData)):
        return
    yield from compare_call(label, theirs, ours)
    for name in dir(theirs):
        expected = inspect.getattr_static(theirs, name)
        if not hasattr(ours, name):
            yield f"{label}.{name}: missing"
        elif name.startswith("_"):
            continue
        elif isinstance(expected, property):
            if not inspect.isdatadescriptor(inspect.getattr_static(ours, name)):
                yield f"{label}.{name}: is not a property"
        elif callable(getattr(theirs, name)):
            yield from compare_call(f"{label}.{name}", getattr(theirs, name), getattr(ours, name))


def compare(label, theirs, ours):
    if inspect.ismodule(theirs) or theirs is ours:
        return
    if inspect.isclass(theirs):
        if not inspect.isclass(ours):
            yield f"{label}: is a class in the stdlib"
        else:
            yield from compare_class(label, theirs, ours)
    elif callable(theirs):
        yield from compare_call(label, theirs, ours)


def test_the_lists_are_complete():
    assert set(SHARED) < set(MODULES)
    assert OVERRIDDEN == [
        "",
        ".connection",
        ".context",
        ".pool",
        ".queues",
        ".sharedctypes",
        ".synchronize",
    ]


@pytest.mark.parametrize("name", SHARED)
def test_shared_modules_are_the_same_objects(name):
    theirs, ours = both(name)
    assert theirs is ours
    parent, _, last = f"fastmp{name}".rpartition(".")
    assert getattr(importlib.import_module(parent), last) is theirs


@pytest.mark.parametrize("name", MODULES)
def test_every_name_is_there(name):
    theirs, ours = both(name)
    ordinary = [n for n in dir(theirs) if not n.startswith("__")]
    assert [n for n in ordinary if not hasattr(ours, n)] == []
    # Submodules are attributes of a package from their first import on.
    lasting = [n for n in ordinary if not inspect.ismodule(getattr(theirs, n))]
    assert [n for n in lasting if n not in dir(ours)] == []


@pytest.mark.parametrize("name", MODULES)
def test_all_names_what_the_stdlibs_does_and_nothing_absent(name):
    theirs, ours = both(name)
    if hasattr(theirs, "__all__"):
        assert [n for n in theirs.__all__ if n not in ours.__all__] == []
        assert [n for n in ours.__all__ if not hasattr(ours, n)] == []


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_every_signature_is_the_stdlibs(name):
    theirs, ours = both(name)
    differences = []
    for attribute in public(dir(theirs)):
        label = f"fastmp{name}.{attribute}"
        differences += compare(label, getattr(theirs, attribute), getattr(ours, attribute))
    assert differences == []


@pytest.mark.parametrize("name", OVERRIDDEN[1:])
def test_classes_derive_from_the_stdlibs(name):
    theirs, ours = both(name)
    strangers = [
        attribute
        for attribute, value in vars(theirs).items()
        if inspect.isclass(value)
        and value.__module__ == theirs.__name__
        and not issubclass(getattr(ours, attribute), value)
    ]
    assert strangers == []


@pytest.mark.parametrize("name", ["ProcessError", "BufferTooShort", "TimeoutError"])
def test_exceptions_are_the_same_classes(name):
    assert getattr(fastmp, name) is getattr(multiprocessing, name)
    assert getattr(fastmp, name).__module__ == "multiprocessing.context"


def test_the_stub_names_what_the_package_exports():
    """fastmp/__init__.pyi, for type checkers, against the package as it is."""
    import ast

    with open(os.path.join(os.path.dirname(fastmp.__file__), "__init__.pyi")) as file:
        tree = ast.parse(file.read())
    (names,) = [
        ast.literal_eval(statement.value)
        for statement in tree.body
        if isinstance(statement, ast.Assign) and statement.targets[0].id == "__all__"
    ]
    assert sorted(names) == sorted(fastmp.__all__)


def declared_methods(name):
    """(class, method, parameters) for each that the stub of a module has, but for special ones."""
    import ast

    with open(os.path.join(os.path.dirname(fastmp.__file__), f"{name[1:]}.pyi")) as file:
        tree = ast.parse(file.read())
    for cls in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for method in (node for node in cls.body if isinstance(node, ast.FunctionDef)):
            if method.name == "__init__" or not method.name.startswith("__"):
                args = method.args
                found = args.args[1:] + [a for a in [args.vararg] if a] + args.kwonlyargs
                yield cls.name, method.name, [a.arg for a in found]


@pytest.mark.parametrize("name", [".context", ".pool", ".queues", ".synchronize"])
def test_what_the_stubs_declare_is_there(name):
    """Of a class with a hidden native one, what calling it gives: mypy.stubtest cannot see it."""
    module = importlib.import_module("fastmp" + name)
    declared = list(declared_methods(name))
    assert declared
    for cls, method, names in declared:
        made = getattr(module, f"_Native{cls}", getattr(module, cls))
        found = inspect.getattr_static(made, method)
        if isinstance(found, property):
            assert names == []
        else:
            assert [p.name for p in parameters(getattr(made, method))] == names, (cls, method)


def test_what_fastmp_adds_is_public():
    for name in ("install", "WorkerLostError", "CorruptionError"):
        assert name in fastmp.__all__
    assert issubclass(fastmp.CorruptionError, OSError)


def test_comparing_notices_differences():
    def stdlib(a, b=1, *, c=2): ...
    def same(a, b=1, *, c=2): ...
    def more(a, b=1, d=None, *, c=2, e=3): ...
    def renamed(a, x=1, *, c=2): ...
    def other_default(a, b=2, *, c=2): ...
    def positional_only(a, b=1, /, *, c=2): ...
    def needs_more(a, b=1, *, c=2, e): ...
    def optional(a=None, b=1, *, c=2): ...
    def without(a, b=1): ...

    def differs(ours):
        return list(compare("label", stdlib, ours)) != []

    assert not differs(same)
    assert not differs(more)
    assert not differs(optional)
    for function in (renamed, other_default, positional_only, needs_more, without):
        assert differs(function)


def test_star_import_of_every_file():
    """What the CPython suite's TestImportStar does, with fastmp in multiprocessing's place."""
    program = """
import fastmp, glob, importlib, os, sys
fastmp.install()
for file in glob.glob(os.path.join(os.path.dirname(fastmp.__file__), "*.py")):
    name = os.path.splitext(os.path.basename(file))[0]
    if name == "__init__":
        continue
    try:
        module = importlib.import_module("multiprocessing." + name)
    except ImportError:
        print(name)
        continue
    assert hasattr(module, "__all__"), name
    for attribute in module.__all__:
        assert hasattr(module, attribute), (name, attribute)
"""
    root = os.path.dirname(os.path.dirname(fastmp.__file__))
    result = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert result.stdout.split() == ["popen_spawn_win32"]
