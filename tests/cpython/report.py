"""What a run prints, and the table of docs/conformance.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from .compare import SuiteReport
from .side import FAILED, PASSED, REPEATED, SKIPPED, Result

BEGIN = "<!-- written by python -m tests.cpython --write-docs -->"
END = "<!-- end of the table -->"
HEAD = (
    "| Python | Suite | ids | passed | skipped | failed | differences | processes |\n"
    "|---|---|---|---|---|---|---|---|\n"
)


def _both(report: SuiteReport, kinds: Sequence[str]) -> str:
    """A figure of the stdlib's and the same of fastmp's."""
    return " / ".join(
        str(sum(side.count(kind) for kind in kinds)) for side in (report.stdlib, report.fastmp)
    )


def _passed(report: SuiteReport) -> str:
    figure = _both(report, [PASSED, REPEATED])
    if report.stdlib.count(REPEATED) or report.fastmp.count(REPEATED):
        figure += f" (on repetition {_both(report, [REPEATED])})"
    return figure


def row(report: SuiteReport) -> str:
    """The report as a line of the table."""
    differences = report.differences()
    allowed = sum(bool(each.allowed) for each in differences)
    words = str(len(differences)) + (f" ({allowed} allowed)" if allowed else "")
    told = report.fastmp.testimony
    cells = [
        report.release,
        report.suite + (f" (of {report.lender})" if report.lender else ""),
        str(len(report.stdlib.outcomes)),
        _passed(report),
        _both(report, [SKIPPED]),
        _both(report, [FAILED]),
        words,
        str(told.processes if told else 0),
    ]
    return "| " + " | ".join(cells) + " |\n"


def printed(reports: Iterable[SuiteReport]) -> str:
    """The table for a terminal: each figure is the stdlib's / fastmp's."""
    lines = [line for line in (HEAD + "".join(map(row, reports))).splitlines() if "---" not in line]
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(each, widths, strict=True)).rstrip()
        for each in rows
    )


def told(side: Result) -> str:
    """What the witness of fastmp's side says, in a line."""
    it = side.testimony
    if it is None:
        return "no witness"
    return (
        f"{it.processes} processes, {it.on_fastmp} imported fastmp as multiprocessing, "
        f"{len(it.on_stdlib)} the stdlib; {len(it.unseen)} unaccounted for, {it.without_site} "
        f"started with -S, {it.cut_short} killed as they started"
    )


#
# The document
#


def _key(line: str) -> tuple[str, str]:
    """(minor version, suite) of a line of the table: what a newer line takes the place of."""
    release, suite = (cell.strip() for cell in line.split("|")[1:3])
    return ".".join(release.split(".")[:2]), suite.partition(" (of")[0]


def _order(key: tuple[str, str], suites: Sequence[str]) -> tuple[int, int]:
    version, suite = key
    minor = int(version.split(".")[1])
    return -minor, suites.index(suite) if suite in suites else len(suites)


def write_table(document: Path, reports: Iterable[SuiteReport], suites: Sequence[str]) -> None:
    """Put the reports into the document's table; lines about other runs stay."""
    text = document.read_text(encoding="utf-8")
    match = re.search(f"{re.escape(BEGIN)}\n(.*?){re.escape(END)}", text, re.DOTALL)
    if match is None:
        raise ValueError(f"{document} has no place for the table")
    lines = {
        _key(line): line for line in match[1].splitlines(keepends=True) if re.match(r"\| \d", line)
    }
    for report in reports:
        line = row(report)
        lines[_key(line)] = line
    table = HEAD + "".join(lines[key] for key in sorted(lines, key=lambda k: _order(k, suites)))
    document.write_text(text[: match.start(1)] + table + text[match.end(1) :], encoding="utf-8")
