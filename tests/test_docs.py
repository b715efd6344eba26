"""What README and the pages of docs/ say is what happens: their Python blocks run, page by page."""

import doctest
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture
def own_micrograd():
    """A page may call fastgrad.install(); other tests want the real micrograd."""

    def take():
        names = [name for name in sys.modules if name.split(".")[0] == "micrograd"]
        return {name: sys.modules.pop(name) for name in names}

    before = take()
    yield
    take()
    sys.modules.update(before)


@pytest.mark.usefixtures("own_micrograd")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_run(page, tmp_path, monkeypatch):
    """A page is one session, in a folder of its own; blocks without a prompt are run as scripts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
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
    assert not said, "".join(said)
