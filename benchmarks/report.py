"""Results as a table for people."""

import math

from .figures import figure, times
from .goals import verdicts
from .measure import quartiles
from .sides import LIMIT


def heading(machine, plan):
    return "\n".join(
        [
            f"{machine['python']}, {machine['system']}, {machine['cpus']} CPUs, "
            f"load {machine['load']}, start method {plan.method}, {plan.rounds} rounds"
            + (", QUICK: says that it runs, not how fast" if plan.quick else ""),
            "Medians per operation, in brackets half the interquartile range; the ratio is the",
            "median of the rounds' stdlib / fastmp with its quartiles. Below 1 fastmp is slower.",
            "",
            f"{'':58} {'stdlib':>16} {'fastmp':>16}   ratio",
        ]
    )


def with_spread(values, unit):
    low, middle, high = quartiles(values)
    spread = f"{(high - low) / 2 / middle:4.0%}" if len(values) > 1 else "once"
    return f"{figure(middle, unit)} ({spread})"


def line(result):
    """The row's line, and one for each further side."""
    return "\n".join([_pair(result), *_others(result)])


def _pair(result):
    name = f"{result.row.name:58}"
    if result.error:
        return f"{name} FAILED, {result.error}"
    unit = result.row.unit
    low, ratio, high = quartiles(result.ratios("stdlib"))
    slower = f"  {_worse(unit)}" if ratio < 1 else ""
    return (
        f"{name} {with_spread(result.sides['stdlib'].values, unit):>16} "
        f"{with_spread(result.sides['fastmp'].values, unit):>16} "
        f"{times(ratio):>7}  ({times(low)} to {times(high)}){slower}"
    )


def _worse(unit):
    return "more" if unit == "byte" else "slower"


def _others(result):
    if result.row.tells_sleeps and not result.error:
        often = (f"{quartiles(result.sides[side].sleeps)[1]:.2f}" for side in ("stdlib", "fastmp"))
        yield "    {:54} {:>16} {:>16}".format("sleeps in an operation", *often)
    for name, measured in result.sides.items():
        if name in ("stdlib", "fastmp"):
            continue
        text = f"    {name:54} {with_spread(measured.values, result.row.unit):>16}"
        ratio = result.ratio(name)
        if ratio is None:
            yield text
        elif measured.kind == LIMIT:
            yield f"{text}   fastmp takes {times(1 / ratio)} of it"
        else:
            losing = f"  fastmp {_worse(result.row.unit)}" if ratio < 1 else ""
            yield f"{text}   {times(ratio)} times fastmp's{losing}"
    for name, reason in result.missing.items():
        if name not in ("stdlib", "fastmp"):
            yield f"    {name:54} {reason}"


def summary(results):
    ratios = [
        result.ratio("stdlib")
        for result in results
        if not result.error and not result.row.by_itself
    ]
    failed = sum(1 for result in results if result.error)
    parts = [f"{sum(not result.error for result in results)} rows"]
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        slower = sum(1 for ratio in ratios if ratio < 1)
        parts += [f"geometric mean of the ratios {mean:.2f}", f"worse in {slower}"]
    behind = {
        (result.row.name, name)
        for result in results
        for name, measured in result.sides.items()
        if measured.kind != LIMIT and name != "stdlib" and (result.ratio(name) or 1) < 1
    }
    if behind:
        parts.append(f"behind a peer in {len({row for row, _ in behind})}")
    if failed:
        parts.append(f"{failed} FAILED")
    return "\n" + ", ".join(parts)


def goals(results):
    """Each goal that was measured, met or not; and those of which this run says nothing."""
    lines, met, not_met, unknown = [""], 0, 0, 0
    for goal, check in verdicts(results):
        if check.is_met is None:
            unknown += 1
            word = "not measured"
        else:
            met, not_met = met + check.is_met, not_met + (not check.is_met)
            word = "met" if check.is_met else "NOT MET"
            if not check.is_met and check.alone:
                word += f"; {goal.alone(check.alone)}"
        lines.append(f"{goal.row:58} {check.what:44} {check.figure or '':>8}  {word}")
    lines.append(f"\ngoals: {met} met, {not_met} not met, {unknown} not measured")
    return "\n".join(lines)
