"""Results as a table for people and as JSON for programs."""

import math

from .measure import quartiles


def duration(seconds):
    """Three digits and a unit."""
    for unit, scale in (("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def heading(machine, plan):
    return "\n".join(
        [
            f"CPython {machine['python']}, {machine['system']}, {machine['cpus']} CPUs, "
            f"start method {plan.method}, {plan.rounds} rounds"
            + (", QUICK: says that it runs, not how fast" if plan.quick else ""),
            "Medians per operation, in brackets half the interquartile range; the ratio is the",
            "median of the rounds' stdlib / fastmp with its quartiles. Below 1 fastmp is slower.",
            "",
            f"{'':52} {'stdlib':>18} {'fastmp':>18}   ratio",
        ]
    )


def _figure(values):
    low, middle, high = quartiles(values)
    spread = (high - low) / 2 / middle
    return f"{duration(middle)} ({spread:4.0%})"


def line(result):
    name = f"{result.row.name:52}"
    if result.error:
        return f"{name} FAILED, {result.error}"
    low, ratio, high = quartiles(result.ratios())
    slower = "  slower" if ratio < 1 else ""
    return (
        f"{name} {_figure(result.stdlib):>18} {_figure(result.fastmp):>18} "
        f"{ratio:7.2f}  ({low:.2f} to {high:.2f}){slower}"
    )


def summary(results):
    ratios = [quartiles(result.ratios())[1] for result in results if not result.error]
    failed = sum(1 for result in results if result.error)
    parts = [f"{len(ratios)} rows"]
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        slower = sum(1 for ratio in ratios if ratio < 1)
        parts += [f"geometric mean of the ratios {mean:.2f}", f"slower in {slower}"]
    if failed:
        parts.append(f"{failed} FAILED")
    return "\n" + ", ".join(parts)


def as_json(machine, plan, results):
    return {
        "machine": machine,
        "method": plan.method,
        "quick": plan.quick,
        "rounds": plan.rounds,
        "rows": [
            {
                "suite": result.row.suite,
                "name": result.row.name,
                "operations": result.count,
                "error": result.error,
                "ratio": None if result.error else quartiles(result.ratios())[1],
                "stdlib": result.stdlib,
                "fastmp": result.fastmp,
            }
            for result in results
        ],
    }
