"""Value and Array."""

import time

from ..rows import expect, repeated, row, timed, times
from .children import working_child

LENGTH = 1000
SMALL = range(LENGTH)
LARGE = range(1_000_000, 1_000_000 + LENGTH)  # beyond the ints that fastmp makes only once
# The rows that copy an array, and what is in it.
COPIED = {
    f"Array('i'): arr[:] of {LENGTH}": SMALL,
    f"Array('i'): arr[:] of {LENGTH} from {LARGE[0]:,} on": LARGE,
}
COPIED_ANEW = f"Array('i'): arr[:] of {LENGTH} that are others each time"
OTHERS = 50  # arrays, before the first comes again: more ints than fastmp remembers


add = repeated("number.value += 1", "number")
_add_under_its_lock = repeated("with number.get_lock(): number.value += 1", "number")


def _counting(make, loop):
    def opened(side):
        number = make(side.context())

        def sample(n):
            number.value = 0
            seconds, _ = timed(loop, number, n)
            expect(number.value, n)
            return seconds

        yield sample

    return opened


row("value", "Value('i'): .value += 1")(_counting(lambda c: c.Value("i", 0), add))
row("value", "Value('d'): .value += 1")(_counting(lambda c: c.Value("d", 0), add))
row("value", "Value('i'): with get_lock(): .value += 1")(
    _counting(lambda c: c.Value("i", 0), _add_under_its_lock)
)
row("value", "RawValue('i'): .value += 1")(_counting(lambda c: c.RawValue("i", 0), add))


INDICES = list(SMALL)  # ints that are there, as the loop is not what these rows are about


def store(array, n):
    for _ in times(n // LENGTH):
        for i in INDICES:
            array[i] = i
    for i in INDICES[: n % LENGTH]:
        array[i] = i


def load(array, n):
    number = None
    for _ in times(n // LENGTH):
        for i in INDICES:
            number = array[i]
    for i in INDICES[: n % LENGTH]:
        number = array[i]
    return number


def copy(array, n):
    for _ in times(n):
        numbers = array[:]
    return numbers


@row("array", "Array('i'): arr[i] = x")
def array_store(side):
    array = side.context().Array("i", LENGTH)

    def sample(n):
        array[:] = [-1] * LENGTH
        seconds, _ = timed(store, array, n)
        expect(array[:n], INDICES[:n])
        return seconds

    yield sample


@row("array", "Array('i'): arr[i]")
def array_load(side):
    array = side.context().Array("i", range(LENGTH))

    def sample(n):
        seconds, number = timed(load, array, n)
        expect(number, (n - 1) % LENGTH)
        return seconds

    yield sample


@row("array", "Array('i'): arr[i], two processes at once")
def array_load_by_two(side):
    context = side.context()
    array = context.Array("i", range(LENGTH))
    with working_child(context, load, array) as conn:

        def both(n):
            conn.send(n // 2)
            return load(array, n // 2), conn.recv()

        def sample(n):
            seconds, last = timed(both, n)
            expect(last, ((n // 2 - 1) % LENGTH if n > 1 else None,) * 2)
            return seconds

        yield sample


def _copying(numbers):
    def opened(side):
        array = side.context().Array("i", numbers)

        def sample(n):
            seconds, copied = timed(copy, array, n)
            expect(copied, list(numbers))
            return seconds

        yield sample

    return opened


for _name, _numbers in COPIED.items():
    row("array", _name)(_copying(_numbers))


@row("array", COPIED_ANEW)
def array_copy_anew(side):
    array = side.context().Array("i", LENGTH)
    others = [
        list(range(LARGE[0] + i * LENGTH, LARGE[0] + (i + 1) * LENGTH)) for i in range(OTHERS)
    ]

    def sample(n):
        total, copied = 0.0, None
        for i in range(n):
            array[:] = others[i % OTHERS]
            start = time.perf_counter()
            copied = array[:]  # and the one before it is freed, as in the other rows
            total += time.perf_counter() - start
            expect(copied, others[i % OTHERS])
        return total

    yield sample
