"""What the pages take from elsewhere when they are built, so that no copy can grow old.

A line of its own in a page stands for a text:

    <!-- file: README.md -->      a Markdown file at the top of the repository
    <!-- help: gax -->            what `gaxjax gax --help` prints, or that of `indicator fit`
"""

import contextlib
import io
import os
import re
from pathlib import Path
from typing import Any

import griffe

_ROOT = Path(__file__).parent.parent
_MARK = re.compile(r"^<!-- (file|help): (\S+(?: \S+)?) -->$", re.MULTILINE)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_COLUMNS = "88"  # what a page has room for


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the texts where a page names them; mkdocs calls this for every page."""
    readers = {"file": _file, "help": command_help}
    return _MARK.sub(lambda found: readers[found[1]](found[2]), markdown)


def command_help(name: str) -> str:
    """Return a command's help as a block of text."""
    from gaxjax.cli.main import main

    printed = io.StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _COLUMNS
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([*name.split(), "--help"])
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    lines = "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())
    return f"```text\n{lines}\n```"


class Examples(griffe.Extension):
    """Reads a docstring's section ``Example:`` as griffe's ``Examples:``, which is code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename it; griffe calls this for everything it has read."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)


def _file(name: str) -> str:
    """Return a file as a page beside the others has it: links to pages are theirs.

    A link to what is no page, such as LICENSE, becomes its words.
    """

    def relative(link: re.Match[str]) -> str:
        image, words, target = link.groups()
        if "://" in target or target.startswith("#"):
            return link[0]
        if target.startswith("docs/"):
            return f"{image}[{words}]({target.removeprefix('docs/')})"
        return words

    return _LINK.sub(relative, (_ROOT / name).read_text())
