"""The documents' examples: where they lie, their blocks, and what their output means.

A file of ``examples/seeds`` is one or more blocks. A block opens with a comment that names its
document and its place there; what follows, up to the next such comment or the end, is the code of
the document, word for word.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "seeds"

# The documents are no part of the repository: they lie in a folder beside a clone of it, or above.
DOCUMENTS = next(
    (
        folder / "shared" / "seeds"
        for folder in ROOT.parents
        if (folder / "shared" / "seeds").is_dir()
    ),
    None,
)

# The fourth document reached us without its indentation, which the example restores.
UNINDENTED = "003_c003194a68d6ccb9.txt"

# Here one process prints, or each that does waits for the one before: lines have one order only.
ORDERED = {
    "notebook_1_process_class",
    "notebook_2_pool_class",
    "notebook_3_queue_class",
    "notebook_4_pipes",
    "notebook_5_locks",
    "notes_1_process",
    "notes_2_pool",
    "notes_3_queue",
    "notes_4_manager",
    "notes_5_value_array",
    "overview_1_process",
    "overview_2_pool",
    "tutorial_0_syntax",
    "tutorial_3_queue",
    "tutorial_4_value_array",
}

_HEADER = re.compile(r"# (\d{3}_[0-9a-f]{16}\.txt), (.+)\n")


def example_names():
    return sorted(path.stem for path in EXAMPLES.glob("*.py"))


def example_path(name):
    return EXAMPLES / f"{name}.py"


def example_blocks(name):
    """The (document, place, code) of each block of an example."""
    start, *parts = _HEADER.split(example_path(name).read_text(encoding="utf-8"))
    if start or not parts:
        raise ValueError(f"{name}.py does not open with a comment that names its document")
    return list(zip(parts[0::3], parts[1::3], parts[2::3], strict=True))


def document_blocks(text):
    """The code blocks of a document: fenced, cells of a notebook, or between its own words.

    A notebook's outputs are not set off from its code, so a cell ends with its ``if __name__``
    block, which each cell of these documents has.
    """
    fenced = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE | re.IGNORECASE)
    cells = re.findall(
        r"^In \[[^]]*\]:\n\s*?^(\S.*?^if __name__ .*?)(?=^\S|\Z)", text, re.DOTALL | re.MULTILINE
    )
    bare = re.findall(r"^(import .*?\n)How to run it:$", text, re.DOTALL | re.MULTILINE)
    return [block.strip("\n ") + "\n" for block in fenced + cells + bare]


def masked_lines(text):
    """The lines of an output, with what changes from run to run masked.

    Process ids become "<pid>", and the numbers that the guide's producer draws become "<n>".
    """
    text = re.sub(r"(PID|Process ID): \d+", r"\1: <pid>", text)
    text = re.sub(r"(Producer: putting|Consumer: got) \d+", r"\1 <n>", text)
    text = re.sub(r"to get \d+", "to get <n>", text)
    return text.splitlines()


def without_frames(text):
    """Tracebacks cut down to their last line: the frames above are the implementation's own."""
    return re.sub(r"Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*", "Traceback: ", text)
