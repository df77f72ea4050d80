"""``python -m fastmp [-m module | -c code | script.py | -] [args]``: runs a program on fastmp.

The program runs as ``python`` itself would run it: ``__main__``, ``sys.argv``, ``sys.path[0]``,
exit code and traceback are its own; ``import multiprocessing`` gives fastmp, in its children too.
"""

import atexit
import builtins
import io
import os
import runpy
import signal
import sys
import types
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from importlib.util import MAGIC_NUMBER

__all__ = ["main"]

_USAGE = "usage: python -m fastmp [-m module | -c code | script.py | -] [args]"

_interrupted = False


def main(args):
    """Run the program that *args* name; it ends as the program ends."""
    atexit.register(_end)  # the first to be registered runs last
    from ._install import install

    install()
    run, target, argv = _parse(args)
    sys.argv[:] = argv
    module = _fresh_main()
    try:
        run(module, target)
    except SystemExit:
        raise
    except BaseException as e:
        _report(e)
        sys.exit(1)


#
# What is to be run
#


def _parse(args):
    """Return the function that runs the program, its target, and the program's ``sys.argv``."""
    if not args:
        return _run_stdin, None, [""]
    first, *rest = args
    if first == "--":
        return _parse_file(rest)
    if first == "-" or not first.startswith("-"):
        return _parse_file(args)
    if first in ("-h", "--help"):
        print(_USAGE)
        sys.exit(0)
    run = {"-m": _run_module, "-c": _run_code}.get(first[:2])
    if run is None:
        _leave(f"unknown option {first}\n{_USAGE}")
    if len(first) > 2:
        return run, first[2:], [first[:2], *rest]
    if not rest:
        _leave(f"Argument expected for the {first} option\n{_USAGE}")
    return run, rest[0], [first, *rest[1:]]


def _parse_file(args):
    if not args or args[0] == "-":
        return _run_stdin, None, args or [""]
    return _run_path, args[0], args


def _leave(message):
    sys.stderr.write(f"{message}\n")
    sys.exit(2)


#
# Running it
#


def _fresh_main():
    """Put a new, empty ``__main__`` in place, for good: atexit handlers still need it."""
    module = types.ModuleType("__main__")
    module.__builtins__ = builtins
    module.__loader__ = BuiltinImporter
    if sys.version_info < (3, 14):
        module.__annotations__ = {}
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    return module


def _is_path_safe():
    """Whether python was told (-I, -P) to put no directory in front of ``sys.path``."""
    return bool(sys.flags.isolated or getattr(sys.flags, "safe_path", False))


def _set_path0(path):
    """Put the program's directory where ``python -m`` has put the current one."""
    if not _is_path_safe():
        sys.path[0] = path


def _set_file(module, file):
    module.__file__ = file
    if sys.version_info < (3, 15):
        module.__cached__ = None


def _run_module(module, name):
    # As python does it: find the module, set sys.argv[0], execute in the __main__ of sys.modules.
    runpy._run_module_as_main(name)


def _run_code(module, source):
    _set_path0("")
    code = compile(source, "<string>", "exec", dont_inherit=True)
    if sys.version_info >= (3, 13):  # tracebacks show the lines of -c
        import linecache

        lines = [line + "\n" for line in source.splitlines()]
        linecache.cache["<string>"] = (len(source), None, lines, "<string>")
    exec(code, module.__dict__)


def _run_stdin(module, _):
    _set_path0("")
    if sys.stdin is None:
        return
    if sys.stdin.isatty():
        import code

        code.interact(local=module.__dict__, exitmsg="")
        return
    _set_file(module, "<stdin>")
    source = sys.stdin.buffer.read()
    exec(compile(source, "<stdin>", "exec", dont_inherit=True), module.__dict__)


def _run_path(module, path):
    file = os.path.join(os.getcwd(), path)
    if _is_container(file):
        if _is_path_safe():
            sys.path.insert(0, file)
        else:
            sys.path[0] = file
        runpy._run_module_as_main("__main__", False)
        return
    _set_path0(os.path.dirname(os.path.realpath(path)))
    code, loader = _read_program(file)
    _set_file(module, file)
    module.__loader__ = loader("__main__", file)
    exec(code, module.__dict__)


def _is_container(file):
    """Whether *file* is a directory or a zip file, whose __main__.py is to be run."""
    for hook in sys.path_hooks:  # pkgutil.get_importer(), but importing pkgutil takes 3 ms
        try:
            hook(file)
        except ImportError:
            continue
        return True
    return False


def _read_program(file):
    """Return the code of a script, compiled already or not, and the type of its loader."""
    try:
        with io.open_code(file) as f:
            source = f.read()
    except OSError as e:
        _leave(f"{sys.executable}: can't open file {file!r}: [Errno {e.errno}] {e.strerror}")
    if source.startswith(MAGIC_NUMBER):
        import pkgutil

        return pkgutil.read_code(io.BytesIO(source)), SourcelessFileLoader
    return compile(source, file, "exec", dont_inherit=True), SourceFileLoader


#
# The end of a program that raised
#


def _report(error):
    """Show *error* as the interpreter does, without the frames that led to the program."""
    global _interrupted
    tb = error.__traceback__
    while tb is not None and tb.tb_frame.f_globals is globals():
        tb = tb.tb_next
    error.__traceback__ = tb
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, tb
    sys.last_exc = error
    _interrupted = isinstance(error, KeyboardInterrupt)
    try:
        sys.excepthook(type(error), error, tb)
    except Exception as e:
        e.__context__ = None
        e.__traceback__ = e.__traceback__.tb_next
        sys.stderr.write("Error in sys.excepthook:\n")
        sys.__excepthook__(type(e), e, e.__traceback__)
        sys.stderr.write("\nOriginal exception was:\n")
        sys.__excepthook__(type(error), error, tb)


def _end():
    """Die by SIGINT, after all other exit handlers, if the program was interrupted."""
    if not _interrupted:
        return
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    main(sys.argv[1:])
