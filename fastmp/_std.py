"""The standard library's ``multiprocessing``, as fastmp stands on it.

``fastmp._std.<name>`` is the stdlib's module ``multiprocessing.<name>``, whatever has been put in
its place.  Modules that hold the package's state (process, util, reduction, ...) are *shared*:
fastmp and the stdlib use the same module object.  The few in ``OVERRIDDEN`` have a native
counterpart in fastmp; here are the originals, from which fastmp's classes derive.

Before ``replace()`` the originals are ordinary modules, imported under their own names.  After it,
``multiprocessing`` and ``multiprocessing.<overridden>`` mean fastmp, and an original lives here
only: those that were loaded already move here; the others are loaded from the stdlib's files as
``fastmp._std.<name>``, and see each other, never their replacements.  Either way what they define
can be pickled by reference and found again in any other process, replaced or not.
"""

import _signal  # type: ignore[import-not-found]
import os
import sys
import types
from _thread import RLock
from _thread import _local as local
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder

__all__ = [
    "OVERRIDDEN",
    "inherit",
    "is_loaded",
    "is_replaced",
    "load_late",
    "replace",
    "share",
    "when_loaded",
]

#: Modules with a native counterpart.  All others are shared.
OVERRIDDEN = frozenset(["connection", "context", "pool", "queues", "sharedctypes", "synchronize"])


class _LateNames:
    """``tempfile._RandomNameSequence()``, of which a SemLock of the stdlib's takes its name."""

    _names = None

    def __iter__(self):
        return self

    def __next__(self):
        if self._names is None:
            self._names = import_module("tempfile")._RandomNameSequence()
        return next(self._names)


class _FromC:
    """Those of the *names* in a module that it has from the module *source*, which is C."""

    def __init__(self, source, *names):
        self._source = source
        self._names = names

    def __contains__(self, name):
        return name in self._names

    def __getitem__(self, name):
        return getattr(import_module(self._source), name)


class _Socket:
    """Stands for ``socket.socket``, for which ``reduction`` registers how to pickle one."""

    sendmsg = None


def _register_sockets(_):
    """Register the class itself.  Called when ``reduction`` was loaded, and when ``socket`` was."""
    socket, reduction = sys.modules.get("socket"), sys.modules.get(f"{_PACKAGE}.reduction")
    if is_loaded(socket) and is_loaded(reduction):
        reducers = reduction.ForkingPickler._extra_reducers
        if _Socket in reducers:
            reducers[socket.socket] = reducers.pop(_Socket)


class _LateFunction:
    """A function or class of a module, which is loaded when that is called."""

    def __init__(self, module, name):
        self._module = module
        self._name = name

    def __call__(self, *args):
        return getattr(import_module(self._module), self._name)(*args)


# What a module imports for a function that is seldom called, and what it sees in there while it is
# being loaded itself: None is something that it asks after, no more.  tempfile takes 5 ms to load,
# with shutil, random and three compressors; signal, which loads enum, a tenth of the time of a
# spawned process; socket, selectors, pickle and subprocess a quarter of it, where a queue or a
# connection is among the arguments.
_DEFERRED: dict = {
    "connection": {
        "selectors": {"PollSelector": _LateFunction("selectors", "PollSelector")},
        "socket": {"AF_UNIX": None},
        "tempfile": {},
    },
    "process": {"signal": {}},
    "reduction": {
        "pickle": _FromC("_pickle", "Pickler", "loads"),
        "socket": {"CMSG_LEN": None, "SCM_RIGHTS": None, "socket": _Socket},
    },
    "synchronize": {"tempfile": {"_RandomNameSequence": _LateNames}},
    "util": {
        "subprocess": {
            "_args_from_interpreter_flags": _LateFunction(
                "subprocess", "_args_from_interpreter_flags"
            )
        }
    },
}

_PACKAGE = "multiprocessing"
_HERE = __name__  # fastmp._std
_FASTMP = __name__.rpartition(".")[0]

# This module is the parent package of the originals; its finder knows where they are.
__path__: list[str] = []

_replaced = False
_when_loaded: dict = {"reduction": [_register_sockets], "socket": [_register_sockets]}
_late: dict = {}


def is_replaced():
    """Whether ``import multiprocessing`` gives fastmp in this process."""
    return _replaced


def stdlib_spec(name, full_name):
    """Find the stdlib's module ``multiprocessing.<name>``, to be loaded as *full_name*, or None."""
    return PathFinder.find_spec(full_name, [os.path.join(os.path.dirname(os.__file__), _PACKAGE)])


class _AliasLoader:
    """Makes a name mean an existing module.

    The import system overwrites ``__spec__`` of what ``create_module`` returns, so the placeholder
    it makes is replaced in ``sys.modules`` only while it is executed.
    """

    def __init__(self, target):
        self.target = target

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        sys.modules[module.__spec__.name] = import_module(self.target)

    def get_code(self, name):
        """For ``python -m``: ImportError, as with the stdlib's package, which has no __main__."""
        raise ImportError(f"{name!r} means {self.target!r} and cannot be directly executed")


class _ThenLoader:
    """Loads a module as *loader* does, then calls with it what is in *thens*.

    What it imports of the modules *deferred* is loaded when it is used.
    """

    def __init__(self, loader, thens, deferred):
        self._loader = loader
        self._thens = thens
        self._deferred = deferred

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        _deferring.load(self._loader, module, self._deferred)
        for then in self._thens:
            then(module)


class _Deferring(local):
    """What this thread is to load late: {module: {name: what stands for it meanwhile}}."""

    names: dict = {}

    def load(self, loader, module, names):
        """Execute the *module*, with *names* to be loaded late, and no others."""
        before, self.names = self.names, names
        try:
            loader.exec_module(module)
        finally:
            self.names = before


_deferring = _Deferring()


class _LateLoader:
    """Loads a module as *loader* does, but only when one of its names is asked for.

    What somebody has set in the module until then stands, as if it had been set afterwards.
    """

    def __init__(self, loader, then, deferred):
        self._loader = loader
        self._then = then
        self._deferred = deferred

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        namespace = vars(module)
        lock = RLock()
        is_loading = False

        def load():
            nonlocal is_loading
            with lock:
                if is_loading or is_loaded(module):
                    return
                is_loading = True
                set_early = {name: namespace[name] for name in namespace.keys() - known}
                try:
                    self._load(module)
                finally:
                    is_loading = False
                namespace.update(set_early)

        def __getattr__(name):
            stand_ins = _deferring.names.get(module.__name__, {})
            if name in stand_ins:
                return stand_ins[name]
            if name != "__path__":  # a package has that from the start; `from ... import` asks
                load()
            try:
                return namespace[name]
            except KeyError:
                message = f"module {module.__name__!r} has no attribute {name!r}"
                raise AttributeError(message, name=name, obj=module) from None

        def __dir__():
            load()
            return sorted(namespace)

        namespace.update(__getattr__=__getattr__, __dir__=__dir__)
        known = set(namespace)
        if self._then is not None:
            self._then()

    def _load(self, module):
        ours = vars(module)["__getattr__"], vars(module)["__dir__"]
        _deferring.load(self._loader, module, self._deferred)
        for name, value in zip(("__getattr__", "__dir__"), ours, strict=True):
            if vars(module)[name] is value:
                delattr(module, name)
        module.__spec__.loader = module.__loader__ = self._loader
        for then in _when_loaded.get(module.__name__.rpartition(".")[2], ()):
            then(module)


class _Finder:
    """Finds ``fastmp._std.<name>`` and, once replaced, ``multiprocessing`` and what is below it."""

    @classmethod
    def find_spec(cls, full_name, path=None, target=None):
        parent, _, name = full_name.rpartition(".")
        if parent == _HERE:
            return cls._original(name, full_name)
        if _replaced:
            if parent == _PACKAGE:
                return cls._replacement(name, full_name)
            if full_name == _PACKAGE:
                return ModuleSpec(full_name, _AliasLoader(_FASTMP), is_package=True)
        elif parent == _PACKAGE and (name in _when_loaded or name in _late or name in _DEFERRED):
            return cls._shared(name, full_name)
        return cls._deferred(full_name) if full_name in _deferring.names else None

    @staticmethod
    def _deferred(full_name):
        spec = PathFinder.find_spec(full_name)
        if spec is not None:
            spec.loader = _LateLoader(spec.loader, None, {})  # type: ignore[assignment]
        return spec

    @staticmethod
    def _shared(name, full_name):
        spec = stdlib_spec(name, full_name)
        deferred = _DEFERRED.get(name, {})
        if spec is not None and name in _late:
            spec.loader = _LateLoader(spec.loader, _late[name], deferred)
        elif spec is not None and (name in _when_loaded or deferred):
            spec.loader = _ThenLoader(spec.loader, _when_loaded.get(name, ()), deferred)
        return spec

    @staticmethod
    def _original(name, full_name):
        spec = stdlib_spec(name, full_name)
        if spec is None:
            return None
        if name not in OVERRIDDEN or not _replaced:
            return ModuleSpec(full_name, _AliasLoader(f"{_PACKAGE}.{name}"))
        spec.loader = _ThenLoader(spec.loader, [_set_home], _DEFERRED.get(name, {}))
        return spec

    @classmethod
    def _replacement(cls, name, full_name):
        if name not in OVERRIDDEN:
            spec = cls._shared(name, full_name)
            if spec is not None:
                return spec
        ours = f"{_FASTMP}.{name}"
        if PathFinder.find_spec(ours, sys.modules[_FASTMP].__path__) is None:
            return None
        return ModuleSpec(full_name, _AliasLoader(ours))


def _set_home(module):
    """Make what an original defines importable by ``__module__`` when its own name means fastmp.

    Exceptions are the same classes in both packages, and keep the stdlib's name, which is what a
    traceback prints.
    """
    name = module.__name__.rpartition(".")[2]
    here, there = f"{_HERE}.{name}", f"{_PACKAGE}.{name}"
    for value in list(vars(module).values()):
        if not isinstance(value, (type, types.FunctionType)):
            continue
        if value.__module__ in (here, there):
            is_error = isinstance(value, type) and issubclass(value, BaseException)
            value.__module__ = there if is_error else here


def replace():
    """Make ``multiprocessing`` mean fastmp in this process, for every import from now on."""
    global _replaced
    if not _replaced:
        _replaced = True
        for name in OVERRIDDEN:
            original = sys.modules.pop(f"{_PACKAGE}.{name}", None)
            if original is not None:
                sys.modules[f"{_HERE}.{name}"] = original
                _set_home(original)
    sys.modules[_PACKAGE] = sys.modules[_FASTMP]


def when_loaded(name, then):
    """Call *then* with the shared module *name*, once: now, or when it has been loaded."""
    thens = _when_loaded.setdefault(name, [])
    if then in thens:
        return
    thens.append(then)
    if is_loaded(sys.modules.get(f"{_PACKAGE}.{name}")):
        then(sys.modules[f"{_PACKAGE}.{name}"])


def load_late(name, then=None):
    """Load this shared module, if it is not yet, only when one of its names is asked for.

    *then* is called when it is imported.
    """
    _late[name] = then


def is_loaded(module):
    """Whether a module, or None, is there, and not only to be loaded late."""
    spec = getattr(module, "__spec__", None)  # which somebody's own may lack
    return module is not None and not isinstance(getattr(spec, "loader", None), _LateLoader)


def share(name):
    """Put the stdlib's module in the place of fastmp's module *name*, which calls this."""
    sys.modules[name] = import_module(f"{_PACKAGE}.{name.rpartition('.')[2]}")


def inherit(namespace):
    """Complete *namespace*, an overridden module's, with all names of the original it lacks."""
    original = import_module(f"{_HERE}.{namespace['__name__'].rpartition('.')[2]}")
    for name, value in vars(original).items():
        if not name.startswith("__") or name == "__all__":
            namespace.setdefault(name, value)


def _name_exit_codes(process):
    """Give *process* the names that it has found in no module ``signal``, which was deferred."""
    if not process._exitcode_to_name:
        for name, number in vars(_signal).items():
            if name.startswith("SIG") and "_" not in name:
                process._exitcode_to_name[-number] = f"-{name}"


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    if stdlib_spec(name, f"{_HERE}.{name}") is not None:
        return import_module(f"{_HERE}.{name}")
    # What the originals take from their package's own namespace: get_context, TimeoutError, ...
    return getattr(import_module(f"{_HERE}.context")._default_context, name)


sys.meta_path.insert(0, _Finder)
when_loaded("process", _name_exit_codes)
