"""What is sent arrives as pickle would have it: values, exact types, what is one object twice."""

import collections
import enum
import pickle
import random

import pytest

import fastmp


@pytest.fixture(scope="module")
def pipe():
    a, b = fastmp.Pipe()
    yield a, b
    a.close()
    b.close()


def graph(value, known):
    """Types, values, order, and which objects are the same."""
    if value is None or isinstance(value, (bool, int, float)):
        return type(value), repr(value)
    if id(value) in known:
        return "again", known[id(value)]
    if not (isinstance(value, tuple) and not value):
        known[id(value)] = len(known)
    if isinstance(value, dict):
        items = [(graph(k, known), graph(v, known)) for k, v in value.items()]
        return type(value), items
    if isinstance(value, (list, tuple)):
        return type(value), [graph(item, known) for item in value]
    return type(value), repr(value)


def check(pipe, value):
    a, b = pipe
    a.send(value)
    assert graph(b.recv(), {}) == graph(pickle.loads(pickle.dumps(value, 5)), {})


class Words(dict):
    pass


class Colour(enum.Enum):
    RED = 1


class Point(collections.namedtuple("Point", "x y")):
    __slots__ = ()


TEXT = "".join(["a text ", "made here"])
LIST = [1]
TUPLE = (LIST, 2)
DEEP = (((((((((1,),),),),),),),),)
CIRCLE: list = []
CIRCLE.append(CIRCLE)

MESSAGES = {
    "a request": ("7f8a", "__setitem__", (5, 7), {}),
    "empty": ((), [], {}, "", b"", ((), ())),
    "dicts": {"a": 1, 2: {"b": None}, 2.5: {}, b"c": (), True: "yes", None: [0]},
    "a tuple for a key": {(1, 2): 3},
    "texts again": [TEXT, (TEXT, TEXT), {TEXT: TEXT}],
    "bytes again": [TEXT.encode()] * 2 + [(b"",), b""],
    "equal texts": ["".join(["x", "y"]), "".join(["x", "y"])],
    "keys again": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    "a list again": [LIST, LIST],
    "a tuple again": [TUPLE, (TUPLE,)],
    "a dict again": [{}] * 2,
    "deep": DEEP,
    "six deep": ((((((1,),),),),),),
    "numbers": [(1 << 63, -(1 << 63)), ((1 << 63) - 1, 1 << 64), [1e308, -0.0, float("nan")]],
    "a lone surrogate": [("\ud800",)],
    "many texts": [[f"t{i}" for i in range(10)] for _ in range(6)],
    "many items": [list(range(64)), list(range(65))],
    "other classes": [Words(a=1), (Colour.RED,), Point(1, 2), {1}, collections.OrderedDict(a=1)],
    "an object among plain ones": [1, (2, [3, {"a": object}])],
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages(pipe, name):
    check(pipe, MESSAGES[name])


def test_a_circle(pipe):
    a, b = pipe
    a.send(CIRCLE)
    got = b.recv()
    assert got[0] is got and len(got) == 1


@pytest.mark.parametrize("seed", range(300))
def test_anything(pipe, seed):
    """Nested at random out of a few objects, so that many come again."""
    rng = random.Random(seed)
    leaves = [
        0,
        -1,
        1 << 40,
        2.5,
        None,
        True,
        *(f"text {i}" for i in range(4)),
        b"x" * 300,
        b"",
        "",
    ]
    pool: list = [*leaves, (), [], {}]

    def build(depth):
        kind = rng.random()
        if depth == 0 or kind < 0.3:
            value = rng.choice(pool)
        elif kind < 0.55:
            value = tuple(build(depth - 1) for _ in range(rng.randrange(4)))
        elif kind < 0.8:
            value = [build(depth - 1) for _ in range(rng.randrange(4))]
        else:
            value = {rng.choice(leaves): build(depth - 1) for _ in range(rng.randrange(4))}
        if rng.random() < 0.15:
            pool.append(value)
        return value

    for _ in range(20):
        check(pipe, build(rng.randrange(7)))


def test_the_sender_may_change_what_it_has_sent(pipe):
    a, b = pipe
    value = {"numbers": [1, 2], "more": ({"a": 1},)}
    a.send(value)
    value["numbers"].append(3)
    value["more"][0].clear()
    assert b.recv() == {"numbers": [1, 2], "more": ({"a": 1},)}
