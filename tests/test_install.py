"""`fastmp.install()`, FASTMP_INSTALL with the .pth, and `python -m fastmp`."""

import glob
import os
import shutil
import subprocess
import sys
import textwrap
import venv

import pytest

from tests.support.run import ROOT, run

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture
def python(tmp_path):
    """Runs python in a fresh directory, with a log of what `multiprocessing` meant."""

    def run_python(*args, **options):
        return run(*args, cwd=tmp_path, FASTMP_LOG=str(tmp_path / "log"), **options)

    return run_python


@pytest.fixture
def log(tmp_path):
    """What each process of the program logged: a list of (pid, event, meaning)."""

    def read():
        with open(tmp_path / "log") as file:
            return [tuple(line.split()[:3]) for line in file]

    return read


def write(path, program):
    path.write_text(textwrap.dedent(program))
    return path


def check(result):
    assert result.code == 0, result.err
    return result.out.split("\n")[:-1]


# Tells, in each kind of process, what `multiprocessing` is there.
EVERYWHERE = """
    import sys
    import multiprocessing, multiprocessing.queues
    from multiprocessing import Pool, Process, SimpleQueue, current_process
    from multiprocessing.pool import ThreadPool
    from concurrent.futures import ProcessPoolExecutor

    def where(*args):
        import multiprocessing, multiprocessing.connection
        names = multiprocessing.__name__, multiprocessing.queues.__name__
        return *names, __name__, type(current_process()).__name__

    def tell(queue):
        queue.put(where())

    def grandchild(queue):
        process = Process(target=tell, args=(queue,))
        process.start()
        process.join()

    def show(*where):
        print(*where, flush=True)

    if __name__ == "__main__":
        multiprocessing.set_start_method(sys.argv[1])
        show(*where())
        queue = SimpleQueue()
        for target in tell, grandchild:
            process = Process(target=target, args=(queue,))
            process.start()
            show(*queue.get())
            process.join()
        with Pool(1) as pool:
            show(*pool.apply(where))
        with ProcessPoolExecutor(1) as executor:
            show(*executor.submit(where).result())
"""


def everywhere(method, main="__main__"):
    """What EVERYWHERE prints under fastmp, with the start method and in that main module."""
    child = main if method == "fork" else "__mp_main__"
    kind = {"fork": "Fork", "spawn": "Spawn", "forkserver": "ForkServer"}[method]
    fastmp = "fastmp fastmp.queues"
    return [
        f"{fastmp} {main} _MainProcess",
        f"{fastmp} {child} Process",
        f"{fastmp} {child} Process",
        f"{fastmp} {child} {kind}Process",
        f"{fastmp} {child} {kind}Process",
    ]


def no_stdlib(lines):
    """No process had the stdlib in multiprocessing's place, from its beginning to its end."""
    assert len({pid for pid, _, _ in lines}) >= 6
    assert [line for line in lines if line[2] == "stdlib"] == []
    assert all(meaning == "fastmp" for _, event, meaning in lines if event != "start")
    return True


#
# install()
#


@pytest.mark.parametrize("method", METHODS)
def test_install_reaches_all_children(python, tmp_path, log, method):
    program = "import fastmp\nfastmp.install()\nfastmp.install()\n" + textwrap.dedent(EVERYWHERE)
    write(tmp_path / "program.py", program)
    assert check(python("program.py", method)) == everywhere(method)
    assert no_stdlib(log())


@pytest.mark.parametrize("method", METHODS)
def test_install_works_late(python, tmp_path, method):
    """What was imported before keeps working, in children too, and with what came after."""
    write(
        tmp_path / "program.py",
        """
        import sys
        import multiprocessing as old
        import multiprocessing.pool, multiprocessing.connection, multiprocessing.managers
        import multiprocessing.queues as old_queues
        from concurrent.futures import ProcessPoolExecutor
        import fastmp

        def where(*args):
            import multiprocessing
            return multiprocessing.__name__, multiprocessing.get_start_method()

        def pass_on(source, destination):
            destination.send([*source.recv(), *where()])

        if __name__ == "__main__":
            fastmp.install()
            import multiprocessing as new
            import multiprocessing.queues
            assert new is fastmp and new is not old
            assert multiprocessing.queues is fastmp.queues is not old_queues
            for package in old, new:
                ctx = package.get_context(sys.argv[1])
                with ProcessPoolExecutor(1, mp_context=ctx) as executor:
                    print(*executor.submit(where).result(), flush=True)
                with ctx.Pool(1) as pool:
                    print(*pool.apply(where), flush=True)
                queue = old_queues.Queue(ctx=ctx)
                process = ctx.Process(target=queue.put, args=("queue",))
                process.start()
                print(queue.get(), flush=True)
                process.join()
                for Pipe in old.Pipe, new.Pipe:
                    (a, b), (c, d) = Pipe(), Pipe()
                    process = ctx.Process(target=pass_on, args=(b, c))
                    process.start()
                    a.send(["pipe"])
                    print(*d.recv(), flush=True)
                    process.join()
                with ctx.Manager() as manager:
                    items = manager.list(["manager"])
                    process = ctx.Process(target=items.append, args=(1,))
                    process.start()
                    process.join()
                    print(*items, flush=True)
        """,
    )
    once = [
        f"fastmp {method}",
        f"fastmp {method}",
        "queue",
        f"pipe fastmp {method}",
        f"pipe fastmp {method}",
        "manager 1",
    ]
    assert check(python("program.py", method)) == once * 2


def test_install_reaches_a_forkserver_that_runs_already(python, tmp_path):
    write(
        tmp_path / "program.py",
        """
        import multiprocessing
        import fastmp

        def show():
            import multiprocessing
            print(multiprocessing.__name__, flush=True)

        def start_one():
            process = multiprocessing.get_context("forkserver").Process(target=show)
            process.start()
            process.join()

        if __name__ == "__main__":
            start_one()
            fastmp.install()
            start_one()
            import multiprocessing
            start_one()
        """,
    )
    assert check(python("program.py")) == ["multiprocessing", "fastmp", "fastmp"]


def test_import_of_an_unknown_submodule(python):
    program = """if True:
        import fastmp
        fastmp.install()
        import multiprocessing.errors
        assert multiprocessing.errors is fastmp.errors
        import multiprocessing.dummy.connection, fastmp.dummy.connection
        assert multiprocessing.dummy.connection is fastmp.dummy.connection
        try:
            import multiprocessing.unknown
        except ModuleNotFoundError as e:
            print(e)
    """
    assert check(python("-c", program)) == ["No module named 'multiprocessing.unknown'"]


@pytest.mark.parametrize("when", ["early", "late"])
def test_exceptions_keep_the_stdlibs_name(python, when):
    """It is what a traceback shows; and by it they are pickled."""
    program = """if True:
        import pickle, sys
        if "late" in sys.argv:
            import multiprocessing.pool
        import fastmp
        fastmp.install()
        import multiprocessing.pool
        for error in multiprocessing.TimeoutError, multiprocessing.pool.MaybeEncodingError:
            print(error)
            assert pickle.loads(pickle.dumps(error)) is error
    """
    assert check(python("-c", program, when)) == [
        "<class 'multiprocessing.context.TimeoutError'>",
        "<class 'multiprocessing.pool.MaybeEncodingError'>",
    ]


def test_the_stdlibs_originals_are_not_loaded_twice(python):
    """Not before, not after; and what is shared is loaded under the stdlib's name only."""
    program = """if True:
        import sys
        import fastmp
        if "late" in sys.argv:
            import multiprocessing.pool, multiprocessing.connection, multiprocessing.sharedctypes
        fastmp.install()
        import multiprocessing.pool, multiprocessing.connection, multiprocessing.sharedctypes
        import multiprocessing.managers, multiprocessing.util, fastmp.shared_memory
        originals = {}
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None) or ""
            if "/multiprocessing/" in file:
                originals.setdefault(file, set()).add(id(module))
        assert len(originals) > 8
        print([file for file, modules in originals.items() if len(modules) > 1])
    """
    assert check(python("-c", program)) == ["[]"]
    assert check(python("-c", program, "late")) == ["[]"]


@pytest.mark.parametrize("args", [["-m", "multiprocessing"], ["-m", "multiprocessing.queues"]])
def test_what_cannot_be_run_says_so(python, installed, args):
    """The package has no __main__, whatever fastmp has."""
    result = python(*args, python=installed, FASTMP_INSTALL="1", PYTHONPATH=None)
    assert result.code == 1
    assert "cannot be directly executed" in result.err and "Traceback" not in result.err


def test_the_package_is_found_as_one(python, installed):
    program = """
from importlib.util import find_spec
print(find_spec("multiprocessing").submodule_search_locations is not None)
import multiprocessing
print(find_spec("multiprocessing").submodule_search_locations is not None)
"""
    result = python("-c", program, python=installed, FASTMP_INSTALL="1", PYTHONPATH=None)
    assert check(result) == ["True"] * 2


#
# The .pth
#


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The python of an environment where fastmp.pth, the hook and fastmp are installed."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = glob.glob(f"{folder}/lib/python*/site-packages")
    for name in ("fastmp.pth", "_fastmp_hook.py"):
        shutil.copy(os.path.join(ROOT, name), site)
    os.symlink(os.path.join(ROOT, "fastmp"), os.path.join(site, "fastmp"))
    return str(folder / "bin" / "python")


MEANING = "import sys; print('multiprocessing' in sys.modules, 'fastmp' in sys.modules); "
MEANING += "import multiprocessing; print(multiprocessing.__name__)"


@pytest.mark.parametrize("flags", [[], ["-I"], ["-E"], ["-s"]])
def test_pth_puts_a_lazy_finder_in_place(python, installed, flags):
    result = python(*flags, "-c", MEANING, python=installed, PYTHONPATH=None, FASTMP_INSTALL="1")
    assert check(result) == ["False False", "fastmp"]


@pytest.mark.parametrize("value", [None, "", "0"])
def test_pth_does_nothing_unless_asked(python, installed, value):
    program = MEANING + "; print('_fastmp_hook' in sys.modules)"
    result = python("-c", program, python=installed, PYTHONPATH=None, FASTMP_INSTALL=value)
    assert check(result) == ["False False", "multiprocessing", "False"]


def test_pth_cannot_reach_a_python_without_site(python, installed):
    result = python("-S", "-c", MEANING, python=installed, PYTHONPATH=None, FASTMP_INSTALL="1")
    assert check(result) == ["False False", "multiprocessing"]


@pytest.mark.parametrize("method", METHODS)
def test_pth_reaches_the_whole_tree(python, installed, tmp_path, log, method):
    write(tmp_path / "program.py", EVERYWHERE)
    options = {"python": installed, "PYTHONPATH": None, "FASTMP_INSTALL": "1"}
    assert check(python("program.py", method, **options)) == everywhere(method)
    assert no_stdlib(log())


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_pth_and_another_fastmp_in_the_current_directory(python, installed, tmp_path, method):
    """`python -c`, as children are started, would find it first; they get their parent's."""
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "elsewhere" / "program.py", EVERYWHERE)
    (tmp_path / "fastmp.py").write_text("raise ImportError('not this one')")
    options = {"python": installed, "PYTHONPATH": None, "FASTMP_INSTALL": "1"}
    assert check(python("elsewhere/program.py", method, **options)) == everywhere(method)


def test_pth_when_fastmp_is_imported_by_its_name_first(python, installed):
    program = "import fastmp, multiprocessing; from fastmp import queues; "
    program += "from multiprocessing import queues as q; "
    program += "print(fastmp is multiprocessing, q is queues)"
    result = python("-c", program, python=installed, PYTHONPATH=None, FASTMP_INSTALL="1")
    assert check(result) == ["True True"]


def test_a_broken_fastmp_does_not_break_pythons_start(python, installed, tmp_path):
    """But it is said, and loudly, where it would have been used."""
    (tmp_path / "fastmp.py").write_text("raise ImportError('broken')")
    options = {"python": installed, "PYTHONPATH": str(tmp_path), "FASTMP_INSTALL": "1"}
    assert check(python("-c", "print('started')", **options)) == ["started"]
    result = python("-c", "import multiprocessing", **options)
    assert result.code == 1
    assert "is to be replaced by fastmp, which cannot be imported: broken" in result.err


def test_start_up_is_hardly_slower(installed, tmp_path):
    """The .pth line costs as good as nothing: it imports nothing when the variable is unset."""
    result = run("-X", "importtime", "-c", "", cwd=tmp_path, python=installed, FASTMP_INSTALL=None)
    assert result.code == 0
    assert "fastmp" not in result.err and "multiprocessing" not in result.err


def test_the_build_puts_the_pth_beside_the_package(tmp_path):
    """A wheel's files are those of build_py, and the core; pip copies them to site-packages."""
    pytest.importorskip("setuptools", reason="needed to build")
    shutil.copytree(ROOT, tmp_path / "src", ignore=shutil.ignore_patterns(".*", "build", "*.so"))
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_py", "--build-lib", tmp_path / "lib"],
        cwd=tmp_path / "src",
        check=True,
    )
    built = sorted(os.listdir(tmp_path / "lib"))
    assert built == ["_fastmp_hook.py", "fastmp", "fastmp.pth"]
    assert os.path.exists(tmp_path / "lib" / "fastmp" / "dummy" / "connection.py")
    types = [name for name in os.listdir(f"{ROOT}/fastmp") if name.endswith((".pyi", ".typed"))]
    assert len(types) > 7
    assert set(types) < set(os.listdir(tmp_path / "lib" / "fastmp"))


#
# python -m fastmp
#

NAMESPACE = """
import sys
namespace = dict(globals())
for name in sorted(namespace):
    if name != "sys":
        value = namespace[name]
        print(name, type(value).__name__, value if isinstance(value, (str, type(None))) else "")
print(sys.argv, sys.path[0])
print(sys.modules["__main__"].__dict__ is globals())
"""
FAILURE = "def f():\n    return 1 / 0\n\n\nf()\n"

LAST_EXCEPTION = """
import atexit, sys
atexit.register(lambda: print(sys.last_value, sys.last_traceback.tb_lineno))
1 / 0
"""

# Each is run by `python` and by `python -m fastmp`, beside p.py (the program) and d/__main__.py.
PROGRAMS = {
    "file": (["p.py", "a", "-m"], NAMESPACE),
    "file elsewhere": (["./d/../p.py"], NAMESPACE),
    "module": (["-m", "p", "a", "b"], NAMESPACE),
    "module, glued": (["-mp", "a"], NAMESPACE),
    "package": (["-m", "d", "a"], NAMESPACE),
    "command": (["-c", NAMESPACE, "a", "-c"], ""),
    "command, glued": (["-cimport sys; print(sys.argv)", "a"], ""),
    "directory": (["d", "x"], NAMESPACE),
    "zip file": (["z.zip", "x"], NAMESPACE),
    "stdin": ([], NAMESPACE),
    "stdin by name": (["-", "a"], NAMESPACE),
    "dashes": (["--", "p.py", "-c"], NAMESPACE),
    "compiled": (["p.pyc", "a"], NAMESPACE),
    "failure": (["p.py"], FAILURE),
    "failure in a module": (["-m", "p"], FAILURE),
    "failure in a command": (["-c", FAILURE], ""),
    "failure in stdin": (["-"], FAILURE),
    "failure with a cause": (["p.py"], "try:\n    {}[1]\nexcept KeyError as e:\n    1 / 0\n"),
    "syntax error": (["p.py"], "def f(:\n"),
    "syntax error in a module": (["-m", "p"], "def f(:\n"),
    "exit": (["p.py"], "import sys\nprint('text')\nsys.exit()\n"),
    "exit code": (["p.py"], "import sys\nprint('text')\nsys.exit(7)\n"),
    "exit message": (["-m", "p"], "import sys\nsys.exit('bye')\n"),
    "interrupt": (["p.py"], "print('text')\nraise KeyboardInterrupt\n"),
    "interrupt in a module": (["-m", "p"], "raise KeyboardInterrupt\n"),
    "excepthook": (["p.py"], "import sys\nsys.excepthook = lambda *a: print(a[:2])\n1 / 0\n"),
    "bad excepthook": (["p.py"], "import sys\nsys.excepthook = lambda *a: {}[1]\n1 / 0\n"),
    "no file": (["absent.py"], ""),
    "no module": (["-m", "absent"], ""),
    "no main": (["e"], ""),
    "atexit": (["p.py"], "import atexit\natexit.register(print, 'end')\nraise KeyboardInterrupt\n"),
    "thread": (
        ["p.py"],
        "import threading\nthreading.Timer(0.1, print, ['late']).start()\n1 / 0\n",
    ),
    "last exception": (["p.py"], LAST_EXCEPTION),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_runs_as_under_python(python, tmp_path, name):
    args, program = PROGRAMS[name]
    (tmp_path / "p.py").write_text(program)
    (tmp_path / "d").mkdir()
    (tmp_path / "e").mkdir()
    (tmp_path / "d" / "__main__.py").write_text(program)
    if "z.zip" in args:
        shutil.make_archive(str(tmp_path / "z"), "zip", tmp_path / "d")
    if "p.pyc" in args:
        import py_compile

        py_compile.compile(str(tmp_path / "p.py"), cfile=str(tmp_path / "p.pyc"))
    plain = python(*args, stdin=program)
    ours = python("-m", "fastmp", *args, stdin=program)
    assert ours == plain
    assert plain.out or plain.err


def test_usage(python):
    assert python("-m", "fastmp", "--help").out.startswith("usage: python -m fastmp")
    for args in ["-m"], ["-c"], ["-x", "p.py"]:
        result = python("-m", "fastmp", *args)
        assert result.code == 2 and "usage: python -m fastmp" in result.err


def test_paths_are_left_alone_in_isolated_mode(python, installed, tmp_path):
    write(tmp_path / "p.py", "import sys; print(sys.path)")
    plain = python("-I", "p.py", python=installed)
    assert python("-I", "-m", "fastmp", "p.py", python=installed) == plain


@pytest.mark.parametrize("how", [["program.py"], ["-m", "program"]], ids=["file", "module"])
@pytest.mark.parametrize("method", METHODS)
def test_programs_and_their_children_get_fastmp(python, tmp_path, log, method, how):
    write(tmp_path / "program.py", EVERYWHERE)
    assert check(python("-m", "fastmp", *how, method)) == everywhere(method)
    assert no_stdlib(log())


def test_commands_and_their_children_get_fastmp(python, log):
    """Functions of a command's __main__ are there under fork only, as with python itself."""
    program = textwrap.dedent(EVERYWHERE)
    assert check(python("-m", "fastmp", "-c", program, "fork")) == everywhere("fork")
    assert no_stdlib(log())


def test_installed_without_the_checkout_on_the_path(python, installed, tmp_path, log):
    write(tmp_path / "program.py", EVERYWHERE)
    options = {"python": installed, "PYTHONPATH": None}
    assert check(python("-m", "fastmp", "program.py", "spawn", **options)) == everywhere("spawn")
    assert no_stdlib(log())


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_in_a_checkout_the_children_find_it(tmp_path, method):
    """`python -m fastmp` finds fastmp in the current directory; the children are told where."""
    write(tmp_path / "program.py", EVERYWHERE)
    result = run("-m", "fastmp", tmp_path / "program.py", method, cwd=ROOT, PYTHONPATH=None)
    assert check(result) == everywhere(method)


def test_a_process_can_be_started_at_exit(python, tmp_path):
    """The main module is still there when the exit handlers run."""
    write(
        tmp_path / "program.py",
        """
        import atexit
        from multiprocessing import Process, set_start_method

        def say():
            print("said", flush=True)

        def at_exit():
            process = Process(target=say)
            process.start()
            process.join()

        if __name__ == "__main__":
            set_start_method("fork")
            atexit.register(at_exit)
        """,
    )
    ours = python("-m", "fastmp", "program.py")
    if sys.version_info[:2] == (3, 12):
        assert "can't fork at interpreter shutdown" in ours.err  # nor can python itself
    else:
        assert check(ours) == ["said"]


def test_children_of_a_script_without_a_guard_are_refused(python, tmp_path):
    """As under python: the classic mistake ends in the stdlib's explanation."""
    write(
        tmp_path / "program.py",
        """
        from multiprocessing import get_context
        process = get_context("spawn").Process(target=print)
        process.start()
        process.join()
        """,
    )
    result = python("-m", "fastmp", "program.py")
    assert "before the current process has finished its bootstrapping phase" in " ".join(
        result.err.split()
    )


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the warning is of 3.12")
@pytest.mark.parametrize("how", [[], ["-m", "fastmp"]], ids=["python", "fastmp"])
def test_fork_with_threads_warns_as_ever(python, tmp_path, how):
    write(
        tmp_path / "program.py",
        """
        import threading
        from multiprocessing import get_context
        if __name__ == "__main__":
            go_on = threading.Event()
            threading.Thread(target=go_on.wait).start()
            process = get_context("fork").Process(target=print)
            process.start()
            process.join()
            go_on.set()
        """,
    )
    result = python("-W", "always", *how, "program.py")
    assert result.err.count("is multi-threaded, use of fork() may lead to deadlocks") == 1
