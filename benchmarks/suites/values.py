"""Value and Array."""

from ..rows import expect, row, timed

LENGTH = 1000
SMALL = range(LENGTH)
LARGE = range(1_000_000, 1_000_000 + LENGTH)  # beyond the ints that fastmp makes only once
# The rows that copy an array, and what is in it.
COPY_OF_LARGE = f"Array('i'): arr[:] of {LENGTH} from {LARGE[0]:,} on"
COPIED = {
    f"Array('i'): arr[:] of {LENGTH}": SMALL,
    COPY_OF_LARGE: LARGE,
}


def add(number, n):
    for _ in range(n):
        number.value += 1


def _add_under_its_lock(number, n):
    for _ in range(n):
        with number.get_lock():
            number.value += 1


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


def store(array, n):
    for i in range(n):
        array[i % LENGTH] = i


def load(array, n):
    for i in range(n):
        number = array[i % LENGTH]
    return number


def copy(array, n):
    for _ in range(n):
        numbers = array[:]
    return numbers


@row("array", "Array('i'): arr[i] = x")
def array_store(side):
    array = side.context().Array("i", LENGTH)

    def sample(n):
        seconds, _ = timed(store, array, n)
        last = n - 1
        expect(array[last % LENGTH], last)
        expect(array[0], last // LENGTH * LENGTH)
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
