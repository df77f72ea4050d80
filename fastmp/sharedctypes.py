"""ctypes objects in shared memory, and wrappers that guard them by a lock.

Signatures, errors and ``repr`` are those of ``multiprocessing.sharedctypes``, whose classes these
derive from.  A :class:`Synchronized`, :class:`SynchronizedArray` or :class:`SynchronizedString` of
a plain C type under one of fastmp's own locks is native; every other combination, and every
subclass, is the stdlib's Python over the same memory.

Beyond the stdlib all of them have the buffer protocol: ``numpy.asarray(array)`` and
``memoryview(array)`` share the memory, keep it alive, and take no lock.
"""

import ctypes
import weakref

from . import _core, _std, context, synchronize
from ._handles import for_child

TYPE_CHECKING = False  # for type checkers, without importing typing
if TYPE_CHECKING:
    from typing import Any

_original = _std.sharedctypes

assert_spawning = _std.context.assert_spawning
get_context = context._default_context.get_context
make_property = _original.make_property
rebuild_ctype = _original.rebuild_ctype
typecode_to_type = _original.typecode_to_type

#: The types whose items `_core` reads and writes itself, each with the code it knows them by.
_PLAIN = {
    type_: type_._type_
    for type_ in (
        ctypes.c_bool, ctypes.c_char, ctypes.c_wchar, ctypes.c_float, ctypes.c_double,
        ctypes.c_byte, ctypes.c_short, ctypes.c_int, ctypes.c_long, ctypes.c_longlong,
        ctypes.c_ubyte, ctypes.c_ushort, ctypes.c_uint, ctypes.c_ulong, ctypes.c_ulonglong,
    )
}  # fmt: skip
_NATIVE_LOCKS = (synchronize.Lock, synchronize.RLock)


#
# Memory
#


def _rebuild_block(handle, offset, slot_size, size):
    return _Block._attach((handle.detach(), offset, slot_size), size)


class _Block(_core.Block):
    """What a raw object keeps in ``_wrapper``: its memory, as it travels to another process."""

    __slots__ = ()

    def create_memoryview(self):
        return memoryview(self)

    def __reduce__(self):
        assert_spawning(self)
        fd, offset, slot_size = self._share()
        return _rebuild_block, (for_child(fd), offset, slot_size, self.size)


def _new_value(type_):
    try:
        size = ctypes.sizeof(type_)
    except TypeError:
        return _original._new_value(type_)  # raises it, in the words of this Python
    return rebuild_ctype(type_, _Block(size), None)


#
# Factories
#


def RawValue(typecode_or_type, *args):
    """
    Returns a ctypes object allocated from shared memory
    """
    type_ = typecode_to_type.get(typecode_or_type, typecode_or_type)
    obj = _new_value(type_)
    obj.__init__(*args)
    return obj


def RawArray(typecode_or_type, size_or_initializer):
    """
    Returns a ctypes array allocated from shared memory
    """
    type_ = typecode_to_type.get(typecode_or_type, typecode_or_type)
    if isinstance(size_or_initializer, int):
        return _new_value(type_ * size_or_initializer)
    result = _new_value(type_ * len(size_or_initializer))
    code = _PLAIN.get(type_)
    if code is None or not result._wrapper._fill(code, size_or_initializer):
        result.__init__(*size_or_initializer)
    return result


def Value(typecode_or_type, *args, lock=True, ctx=None):
    """
    Return a synchronization wrapper for a Value
    """
    obj = RawValue(typecode_or_type, *args)
    return obj if lock is False else _with_lock(obj, lock, ctx)


def Array(typecode_or_type, size_or_initializer, *, lock=True, ctx=None):
    """
    Return a synchronization wrapper for a RawArray
    """
    obj = RawArray(typecode_or_type, size_or_initializer)
    return obj if lock is False else _with_lock(obj, lock, ctx)


def _with_lock(obj, lock, ctx):
    if lock in (True, None):
        ctx = ctx or get_context()
        lock = ctx.RLock()
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return synchronized(obj, lock, ctx=ctx)


def copy(obj):
    """Return a raw object in shared memory with the contents of the ctypes object *obj*."""
    new_obj = _new_value(type(obj))
    ctypes.pointer(new_obj)[0] = obj
    return new_obj


def synchronized(obj, lock=None, ctx=None):
    """Return a wrapper that guards the ctypes object *obj* by *lock*, or by a new RLock."""
    assert not isinstance(obj, _original.SynchronizedBase), "object already synchronized"
    ctx = ctx or get_context()
    if isinstance(obj, ctypes._SimpleCData):
        return Synchronized(obj, lock, ctx)
    if isinstance(obj, ctypes.Array):
        if obj._type_ is ctypes.c_char:
            return SynchronizedString(obj, lock, ctx)
        return SynchronizedArray(obj, lock, ctx)
    return _class_for_fields_of(type(obj))(obj, lock, ctx)


# The stdlib's has the classes that it made, on top of its own SynchronizedBase.
class_cache: weakref.WeakKeyDictionary[type, type] = weakref.WeakKeyDictionary()


def _class_for_fields_of(cls):
    """The wrapper class of a Structure or Union: a property for each field."""
    try:
        return class_cache[cls]
    except KeyError:
        properties = {field[0]: make_property(field[0]) for field in cls._fields_}
        made = type("Synchronized" + cls.__name__, (SynchronizedBase,), properties)
        class_cache[cls] = made
        return made


#
# Wrappers.  Of the three public classes, `__new__` gives an instance of the native class whose
# name is the same with a leading `_Native`, where it can.
#


def _default_lock(ctx):
    return (ctx or get_context()).RLock()


def _native(cls, code, obj, lock, ctx):
    """An object of the native class *cls*, or None when *obj* or *lock* need Python."""
    # An object that owns its memory can be moved by ctypes.resize().
    if code is None or obj._b_needsfree_:
        return None
    lock = lock or _default_lock(ctx)
    if type(lock) not in _NATIVE_LOCKS:
        return None
    return cls.__new__(cls, obj, lock, lock._semlock, code)


def _named_as(public):
    def rename(cls):
        cls.__name__, cls.__qualname__ = public.__name__, public.__qualname__
        cls.__doc__ = public.__doc__
        return cls

    return rename


class SynchronizedBase(_core.Buffered, _original.SynchronizedBase):
    """Base of all wrappers: a ctypes object, its lock, and the object's buffer."""

    def __init__(self, obj, lock=None, ctx=None):
        super().__init__(obj, lock or _default_lock(ctx))

    def __reduce__(self):
        assert_spawning(self)
        return synchronized, (self._obj, self._lock)


class Synchronized(SynchronizedBase, _original.Synchronized):
    """A simple ctypes object whose ``value`` is read and written under a lock."""

    def __new__(cls, obj, lock=None, ctx=None):
        made = None
        if cls is Synchronized:
            made = _native(_NativeSynchronized, _PLAIN.get(type(obj)), obj, lock, ctx)
        return made if made is not None else super().__new__(cls)


def _code_of_items(obj):
    type_: Any = getattr(obj, "_type_", None)
    code = _PLAIN.get(type_)
    # Arrays of one type and length are of one class, unless somebody has derived from it.
    return code if code is not None and type(obj) is type_ * len(obj) else None


class SynchronizedArray(SynchronizedBase, _original.SynchronizedArray):
    """A ctypes array whose items and slices are read and written under a lock."""

    def __new__(cls, obj, lock=None, ctx=None):
        made = None
        if cls is SynchronizedArray:
            made = _native(_NativeSynchronizedArray, _code_of_items(obj), obj, lock, ctx)
        return made if made is not None else super().__new__(cls)

    def __bytes__(self):
        """What ``bytes()`` makes of the items, as in the stdlib; the memory is ``memoryview``'s."""
        return bytes(list(self))


class SynchronizedString(SynchronizedArray, _original.SynchronizedString):
    """An array of ``c_char``, which has ``value`` and ``raw`` besides."""

    def __new__(cls, obj, lock=None, ctx=None):
        made = None
        if cls is SynchronizedString:
            made = _native(_NativeSynchronizedString, _code_of_items(obj), obj, lock, ctx)
        return made if made is not None else super().__new__(cls, obj, lock, ctx)


@_named_as(Synchronized)
class _NativeSynchronized(_core.Value, Synchronized):
    pass


@_named_as(SynchronizedArray)
class _NativeSynchronizedArray(_core.Array, SynchronizedArray):
    pass


@_named_as(SynchronizedString)
class _NativeSynchronizedString(_core.CharArray, SynchronizedString):
    pass


_std.inherit(globals())
