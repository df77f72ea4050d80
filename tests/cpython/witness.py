"""The proof that the whole of a run was on fastmp: what the recorders of its processes wrote."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PYTHON = re.compile(r"python(\d+(\.\d+)?)?$")
_WITH_VALUE = ("-W", "-X", "--check-hash-based-pycs")


@dataclass(frozen=True)
class Testimony:
    """What is known of a run's processes."""

    processes: int  # that were seen: started, or forked by one that was
    on_fastmp: int  # that loaded it (those that such a one forks have it, and are not counted)
    on_stdlib: list[str]  # that loaded the stdlib as multiprocessing: descriptions
    unseen: list[str]  # Pythons that should have read site-packages, and did not
    without_site: int  # Pythons that were told not to, by -S
    cut_short: int  # children whose command substitutes fastmp, killed before they came to it


def read(log: Path) -> Testimony:
    """Judge the log of a run."""
    events = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    started: dict[int, list[str]] = {}
    seen = loaded = without_site = cut_short = 0
    on_stdlib, unseen = [], []
    for event in events:
        if event["event"] in ("start", "fork"):
            seen += 1
        if event["event"] == "start":
            started[event["pid"]] = event["argv"]
        elif event["event"] == "load":
            if Path(event["file"]).parent.name == "fastmp":
                loaded += 1
            else:
                command = started.get(event["pid"], ["a fork"])
                on_stdlib.append(f"pid {event['pid']} {_shorten(command)}")
    for event in events:
        if event["event"] != "exec" or not _is_python(event["argv"]):
            continue
        if _skips_site(event["argv"]):
            without_site += 1
        elif _has_started(event, started):
            pass
        elif any("_fastmp_hook.enable(" in arg for arg in event["argv"]):
            cut_short += 1
        else:
            unseen.append(_shorten(event["argv"]))
    return Testimony(seen, loaded, on_stdlib, unseen, without_site, cut_short)


def _has_started(event: dict[str, Any], started: dict[int, list[str]]) -> bool:
    if event["child"] is not None:
        return event["child"] in started
    return any(argv[1:] == event["argv"][1:] for argv in started.values())


def _is_python(argv: list[str]) -> bool:
    return bool(argv) and _PYTHON.match(os.path.basename(argv[0])) is not None


def _skips_site(argv: list[str]) -> bool:
    """Whether -S is among the interpreter's own options, alone or with others (-ES)."""
    options = iter(argv[1:])
    for option in options:
        if not option.startswith("-") or option in ("-", "-c", "-m"):
            return False
        if option in _WITH_VALUE:
            next(options, None)
        elif not option.startswith(("--", "-W", "-X", "-c", "-m")) and "S" in option:
            return True
    return False


def _shorten(argv: list[str]) -> str:
    text = " ".join(argv)
    return text if len(text) <= 160 else text[:157] + "..."
