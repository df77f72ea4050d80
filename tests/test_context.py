"""Contexts: one state with the stdlib's, and fastmp's objects from every factory."""

import importlib
import multiprocessing
import multiprocessing.context
import os
import pickle
import signal
import sys
import time

import pytest

import fastmp
import fastmp.context

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture
def unset():
    """No start method has been set.  (conftest puts the former one back.)"""
    multiprocessing.set_start_method(None, force=True)


@pytest.fixture
def foreign():
    """A context that somebody, as loky does, adds to the stdlib's table."""

    class ForeignContext(multiprocessing.context.BaseContext):
        _name = "foreign"
        Process = multiprocessing.context.SpawnProcess

    yield ForeignContext()
    multiprocessing.context._concrete_contexts.pop("foreign", None)


#
# One state
#


def test_default_method_is_the_interpreters(unset):
    assert fastmp.get_start_method(allow_none=True) is None
    assert fastmp.get_start_method() == ("forkserver" if sys.version_info >= (3, 14) else "fork")
    assert multiprocessing.get_start_method(allow_none=True) == fastmp.get_start_method()


@pytest.mark.parametrize("method", METHODS)
def test_setting_it_here_sets_it_there(unset, method):
    fastmp.set_start_method(method)
    assert multiprocessing.get_start_method() == method
    assert type(multiprocessing.get_context()).__module__ == "multiprocessing.context"
    assert fastmp.get_context() is fastmp.get_context(method)
    with pytest.raises(RuntimeError, match="context has already been set"):
        multiprocessing.set_start_method(method)


@pytest.mark.parametrize("method", METHODS)
def test_setting_it_there_sets_it_here(unset, method):
    multiprocessing.set_start_method(method)
    assert fastmp.get_start_method() == method
    assert fastmp.get_context() is fastmp.get_context(method)
    with pytest.raises(RuntimeError, match="context has already been set"):
        fastmp.set_start_method(method)
    fastmp.set_start_method(method, force=True)


@pytest.mark.parametrize("package", [fastmp, multiprocessing])
def test_forcing_a_method_is_seen_by_both(unset, package):
    importlib.import_module(f"{package.__name__}.context")._force_start_method("spawn")
    assert fastmp.get_start_method() == multiprocessing.get_start_method() == "spawn"


def test_all_methods():
    assert fastmp.get_all_start_methods() == multiprocessing.get_all_start_methods()


def test_unknown_methods_are_refused(unset):
    with pytest.raises(ValueError, match="cannot find context for 'unknown'"):
        fastmp.get_context("unknown")
    with pytest.raises(ValueError, match="cannot find context for 'unknown'"):
        fastmp.set_start_method("unknown")
    with pytest.raises(ValueError, match="cannot set start method of concrete context"):
        fastmp.get_context("fork").set_start_method("spawn")


@pytest.mark.parametrize("package", [fastmp, multiprocessing])
def test_contexts_added_to_either_table_are_in_both(unset, foreign, package):
    contexts = importlib.import_module(f"{package.__name__}.context")._concrete_contexts
    contexts["foreign"] = foreign
    assert fastmp.get_context("foreign") is multiprocessing.get_context("foreign") is foreign
    fastmp.set_start_method("foreign")
    assert multiprocessing.get_context() is fastmp.get_context() is foreign
    assert fastmp.get_start_method() == "foreign"


def test_the_table_holds_fastmps_contexts():
    contexts = fastmp.context._concrete_contexts
    assert list(contexts) == list(multiprocessing.context._concrete_contexts)
    # Others are a library's of its own, such as loky's.
    own = [contexts[method] for method in ("fork", "spawn", "forkserver")]
    assert all(type(ctx).__module__ == "fastmp.context" for ctx in own)
    assert "unknown" not in contexts and contexts.get("unknown") is None


def test_another_default_context_has_its_own_state(unset):
    other = fastmp.context.DefaultContext(fastmp.get_context("spawn"))
    assert other.get_context() is fastmp.get_context("spawn")
    other.set_start_method("forkserver", force=True)
    assert other.get_start_method() == "forkserver"
    assert fastmp.get_start_method(allow_none=True) is None


def test_the_spawning_state_is_one():
    for name in ("assert_spawning", "get_spawning_popen", "set_spawning_popen"):
        assert getattr(fastmp.context, name) is getattr(multiprocessing.context, name)


def test_the_reducer_is_one():
    original = fastmp.context.reduction
    assert original is multiprocessing.context.reduction is fastmp.reducer
    fastmp.context._default_context.reducer = replacement = object()
    try:
        assert multiprocessing.context.reduction is replacement
        assert fastmp.context.reduction is replacement
        assert fastmp.context._default_context.reducer is replacement
    finally:
        multiprocessing.context._default_context.reducer = original
    assert fastmp.context.reduction is original


#
# What contexts are and make
#


@pytest.mark.parametrize("method", METHODS)
def test_contexts_are_the_stdlibs_too(method):
    ctx, theirs = fastmp.get_context(method), multiprocessing.get_context(method)
    assert isinstance(ctx, type(theirs)) and isinstance(ctx, multiprocessing.context.BaseContext)
    assert issubclass(ctx.Process, theirs.Process)
    assert ctx.get_context() is ctx and ctx.get_start_method() == method
    assert ctx.TimeoutError is multiprocessing.TimeoutError


@pytest.mark.parametrize("method", METHODS)
def test_contexts_can_be_patched(method, monkeypatch):
    """A test of CPython 3.14 patches ``ctx.Process``."""
    ctx = fastmp.get_context(method)
    monkeypatch.setattr(ctx, "Process", None)
    assert ctx.Process is None and type(ctx).Process is not None


@pytest.mark.parametrize("method", METHODS)
def test_contexts_can_be_pickled(method):
    copy = pickle.loads(pickle.dumps(fastmp.get_context(method)))
    assert type(copy) is type(fastmp.get_context(method))
    assert copy.get_start_method() == method


OBJECTS = {
    "Lock": ("synchronize", ()),
    "RLock": ("synchronize", ()),
    "Semaphore": ("synchronize", ()),
    "BoundedSemaphore": ("synchronize", ()),
    "Condition": ("synchronize", ()),
    "Event": ("synchronize", ()),
    "Barrier": ("synchronize", (2,)),
    "Queue": ("queues", ()),
    "JoinableQueue": ("queues", ()),
    "SimpleQueue": ("queues", ()),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_factories_make_fastmps_objects(ctx, name):
    module, args = OBJECTS[name]
    made = getattr(ctx, name)(*args)
    assert isinstance(made, getattr(importlib.import_module(f"fastmp.{module}"), name))
    assert type(made).__module__.startswith("fastmp.")
    assert isinstance(made, getattr(importlib.import_module(f"multiprocessing.{module}"), name))
    if hasattr(made, "close"):
        made.close()


def square(x):
    return x * x


def test_pools_are_fastmps(ctx):
    import fastmp.pool

    pool = ctx.Pool(1)
    with pool:
        assert isinstance(pool, fastmp.pool.Pool)
        assert pool.map(square, range(3)) == [0, 1, 4]
    pool.join()


def test_pipes_and_values_work(ctx):
    left, right = ctx.Pipe()
    with left, right:
        left.send([1])
        assert right.recv() == [1]
    value, array = ctx.Value("i", 7), ctx.Array("i", [1, 2])
    assert value.value == 7 and list(array) == [1, 2]
    assert ctx.RawValue("d", 0.5).value == 0.5
    assert list(ctx.RawArray("i", 2)) == [0, 0]


def test_managers_processes_are_the_contexts(ctx):
    with ctx.Manager() as manager:
        assert isinstance(manager._process, ctx.Process)
        assert list(manager.list([1, 2])) == [1, 2]


def test_the_rest_of_the_functions():
    assert fastmp.cpu_count() == multiprocessing.cpu_count()
    assert fastmp.freeze_support() is None
    assert fastmp.allow_connection_pickling() is None
    assert fastmp.get_logger() is multiprocessing.get_logger()
    server = fastmp.forkserver._forkserver
    preload = server._preload_modules
    fastmp.set_forkserver_preload(["json"])
    assert server._preload_modules == ["json"]
    fastmp.set_forkserver_preload(preload)
    executable = fastmp.spawn.get_executable()
    fastmp.set_executable(sys.executable)
    assert os.fsencode(fastmp.spawn.get_executable()) == os.fsencode(sys.executable)
    fastmp.set_executable(executable)


def test_submodules_are_attributes():
    assert fastmp.queues is importlib.import_module("fastmp.queues")
    with pytest.raises(AttributeError, match="'fastmp' has no attribute 'unknown'"):
        fastmp.unknown  # noqa: B018
    assert not hasattr(fastmp, "popen_spawn_win32")


#
# Processes
#


def leave_with(code):
    sys.exit(code)


def leave_when_told(go, code):
    go.recv()
    sys.exit(code)


def test_processes_run(ctx):
    child_end, go = ctx.Pipe(duplex=False)
    process = ctx.Process(target=leave_when_told, args=(child_end, 3), name="a name", daemon=True)
    assert isinstance(process, multiprocessing.process.BaseProcess)
    assert type(process).__module__ == "fastmp.context"
    with go, child_end:
        process.start()
        assert process in fastmp.active_children()
        go.send(None)
        process.join()
    assert process.exitcode == 3 and process.name == "a name"
    process.close()


@pytest.mark.parametrize("method", METHODS)
def test_the_default_process_uses_the_method_that_is_set(unset, method):
    fastmp.set_start_method(method)
    process = fastmp.Process(target=leave_with, args=(4,))
    process.start()
    process.join()
    assert process.exitcode == 4
    assert type(process._popen).method == method
    process.close()


def sleep_until_interrupted(ready):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        ready.send(None)
        time.sleep(60)
    except KeyboardInterrupt:
        sys.exit(42)


def test_interrupt_is_sigint(ctx):
    ready, child_end = ctx.Pipe(duplex=False)
    process = ctx.Process(target=sleep_until_interrupted, args=(child_end,))
    process.start()
    child_end.close()
    with ready:
        ready.recv()
    process.interrupt()
    process.join()
    assert process.exitcode == 42
    process.close()
    with pytest.raises(ValueError, match="process object is closed"):
        process.interrupt()
