"""The charts: how fastmp compares, row by row; and how cost grows with a size."""

import math

from .figures import duration
from .sides import LIMIT, PEERS
from .suites import SHORT

FASTMP, STDLIB, MACHINE = "#c0392b", "#2c3e50", "#7f8c8d"
MARKS = "osD^v<>+xp*h"
COLOURS = (
    "#2980b9", "#27ae60", "#8e44ad", "#d35400", "#16a085", "#f1a40f",
    "#6ab04c", "#e056fd", "#30336b", "#22a6b3", "#b33939", "#84817a",
)  # fmt: skip


def _pyplot():
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none"})
    matplotlib.rcParams.update({"font.family": "sans-serif", "font.size": 9})
    from matplotlib import pyplot

    return pyplot


def _save(figure, path):
    metadata = {"Date": None} if path.endswith(".svg") else None
    figure.savefig(path, metadata=metadata, bbox_inches="tight", facecolor="white", dpi=110)
    _pyplot().close(figure)


def draw(results, path):
    """Each row's times as multiples of fastmp's, on one logarithmic axis."""
    results = [
        result
        for result in results
        if result.row.suite in SHORT and result.row.unit == "second" and not result.error
    ]
    if not results:
        raise SystemExit("nothing to draw: no row of the short suites was measured")
    figure, axes = _pyplot().subplots(figsize=(9.2, 1.4 + 0.27 * len(results)))
    for place, result in enumerate(results):
        _draw_row(axes, place, result)
        if place and result.row.suite != results[place - 1].row.suite:
            axes.axhline(place - 0.5, color="#bbbbbb", linewidth=0.6, zorder=0)
    axes.axvline(1, color=FASTMP, linewidth=2, zorder=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_yticks(range(len(results)), [_label(result) for result in results])
    axes.set_ylim(len(results) - 0.4, -0.6)
    axes.set_xlabel("time, as a multiple of fastmp's (right of the line: fastmp is faster)")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    _legend(axes)
    _save(figure, path)


def _label(result):
    name = result.row.name.replace(" (4 MiB if quick)", "")
    return f"{name}   {duration(result.sides['fastmp'].median())}"


def _draw_row(axes, place, result):
    stdlib = result.ratio("stdlib")
    colour = STDLIB if stdlib >= 1 else FASTMP
    axes.barh(place, stdlib - 1, left=1, height=0.55, color=colour, alpha=0.25, zorder=2)
    axes.plot(stdlib, place, "|", color=STDLIB, markersize=11, markeredgewidth=2.5, zorder=4)
    for name, measured in result.sides.items():
        if name in ("stdlib", "fastmp"):
            continue
        if measured.kind == LIMIT:
            if result.ratio(name) <= 1.5:  # what takes longer than fastmp is no limit of it
                axes.plot(result.ratio(name), place, "|", color=MACHINE, markersize=7, zorder=3)
        else:
            axes.plot(result.ratio(name), place, **_look(name), zorder=5)


def _look(name):
    number = list(PEERS).index(name)
    return {
        "marker": MARKS[number],
        "color": COLOURS[number],
        "markersize": 7 if MARKS[number] in "p*+x" else 5,
        "linestyle": "",
        "markeredgewidth": 1.5 if MARKS[number] in "+x" else 0,
    }


def _legend(axes):
    from matplotlib.lines import Line2D

    drawn = {line.get_marker() for line in axes.lines}
    handles = [
        Line2D([], [], color=FASTMP, linewidth=2, label="fastmp"),
        Line2D([], [], color=STDLIB, marker="|", markersize=11, markeredgewidth=2.5, linestyle="",
               label="standard library"),
        *(
            Line2D([], [], label=name, **_look(name))
            for name in PEERS
            if _look(name)["marker"] in drawn
        ),
    ]  # fmt: skip
    if any(line.get_color() == MACHINE for line in axes.lines):
        handles.append(Line2D([], [], color=MACHINE, marker="|", markersize=7, linestyle="",
                              label="limits of the machine"))  # fmt: skip
    axes.legend(
        handles=handles, ncols=5, frameon=False, loc="upper center", bbox_to_anchor=(0.3, -0.09),
        fontsize=8,
    )  # fmt: skip


def curves(results, path):
    """One small chart for each series of the growth suite."""
    series = {}
    for result in results:
        if result.row.series and not result.error:
            series.setdefault(result.row.series, []).append(result)
    if not series:
        raise SystemExit("nothing to draw: no row of the suite growth was measured")
    columns = 2
    lines = math.ceil(len(series) / columns)
    figure, grid = _pyplot().subplots(
        lines, columns, figsize=(9.2, 2.7 * lines), squeeze=False, layout="constrained"
    )
    for axes in grid.flat[len(series) :]:
        axes.set_visible(False)
    for axes, (name, points) in zip(grid.flat, series.items(), strict=False):
        _curve(axes, name, points)
    grid.flat[0].legend(frameon=False, fontsize=8)
    _save(figure, path)


def _curve(axes, name, points):
    at = [result.row.at for result in points]
    for side, colour in (("stdlib", STDLIB), ("fastmp", FASTMP)):
        seconds = [result.sides[side].median() for result in points]
        axes.plot(at, seconds, "o-", color=colour, markersize=3, linewidth=1.4, label=side)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title(name, fontsize=9)
    axes.set_xticks(at, [_count(value) for value in at])
    axes.yaxis.set_major_locator(_locator(axes.get_ylim()))
    axes.yaxis.set_major_formatter(lambda value, _: duration(value))
    axes.minorticks_off()
    axes.grid(color="#e5e5e5", linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _locator(limits):
    """Ticks at powers of ten, and between them where there are few."""
    from matplotlib.ticker import LogLocator

    low, high = limits
    return LogLocator(subs=(1.0,) if high / low > 300 else (1.0, 2.0, 5.0))


def _count(value):
    for units, base in (("kMG", 1000), ("KMG", 1024)):  # plain thousands, or KiB and the like
        for unit, power in zip(reversed(units), (3, 2, 1), strict=True):
            if value >= base**power and value % base**power == 0:
                return f"{value // base**power:g} {unit}{'i' if base == 1024 else ''}"
    return f"{value:g}"
