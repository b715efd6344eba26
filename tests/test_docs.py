"""What README and the pages of docs/ say is what happens: their Python blocks run, page by page."""

import doctest
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def run_blocks(page):
    """Run a page as one session; blocks without a prompt are scripts."""
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    names, said = {"__name__": "__main__"}, []
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    for number, block in enumerate(blocks, start=1):
        where = f"{page.name}, Python block {number}"
        if ">>>" in block:
            test = doctest.DocTestParser().get_doctest(block, names, where, None, 0)
            test.globs = names  # not a copy, in which what the page deletes would live on
            runner.run(test, out=said.append, clear_globs=False)
        else:
            exec(compile(block, where, "exec"), names)
    if said:
        sys.exit("".join(said))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_run(page, tmp_path):
    """In a process of its own, as a reader's: slots count from 0, and install() harms no other."""
    ended = subprocess.run(
        [sys.executable, __file__, page],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True,
        encoding="utf-8",
    )
    assert not ended.returncode, ended.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tables_have_headings(page):
    """Browsers draw a row without any text as an empty box."""
    lines = page.read_text("utf-8").splitlines()
    empty = [
        f"line {number}: {head}"
        for number, (head, rule) in enumerate(pairwise(lines), start=1)
        if re.fullmatch(r"\|[-:| ]*-[-:| ]*", rule) and not head.strip("| ")
    ]
    assert not empty


if __name__ == "__main__":
    run_blocks(Path(sys.argv[1]))
