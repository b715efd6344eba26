"""What the site needs beyond Markdown: README as its first page, and the sources that are linked.

mkdocs calls the functions (``hooks`` in mkdocs.yml); griffe the class, when it reads the package
for the API pages. Pages link to each other and to sources as files of the repository, so that they
work there too; here links to sources are led to pages that are made for them.
"""

import importlib
import inspect
import json
import posixpath
import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
_LANGUAGES = {".c": "c", ".h": "c", ".pxd": "cython", ".pyx": "cython"}
_LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)")
_TOGETHER = re.compile(
    r"^( *)(\**\w+(?:, \**\w+)+)"  # names; then a type, a description or both
    r"( : .*\n(?:\1 .*\n)*|\n(?:\1 .*\n)+)",
    re.MULTILINE,
)


def _fenced(code: str, language: str) -> str:
    return f"~~~~{language}\n{code}\n~~~~\n"


def _source_page(path: Path) -> str:
    """A source file as Markdown; a notebook as its text and code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = [(c["cell_type"], "".join(c["source"])) for c in json.loads(text)["cells"]]
        shown = [_fenced(s, "python") if kind == "code" else s for kind, s in cells]
        shown.insert(1, f"*Open `{path.name}` in Jupyter to see what the cells give.*")
        return "\n\n".join(shown).replace("](../docs/", "](../../")  # from source/examples
    head = f"---\nsearch:\n  exclude: true\n---\n# {path.name}\n\n"
    return head + _fenced(text, _LANGUAGES.get(path.suffix, "python"))


def _led(text: str, folder: str, files: Files, config: Any) -> str:
    """`text` of a page in `folder`, its links out of docs/ led to pages that are made here."""

    def lead(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[1]))
        if path.startswith("docs/"):
            return posixpath.relpath(path, "docs")
        page = f"source/{path}.md"
        if (ROOT / path).is_file() and not files.get_file_from_path(page):
            made = {"content": _source_page(ROOT / path), "inclusion": InclusionLevel.NOT_IN_NAV}
            files.append(File.generated(config, page, **made))
        return page

    return _LINK.sub(lead, text)


def on_files(files: Files, config: Any) -> Files:
    for file in list(files.documentation_pages()):
        if "/" not in file.src_uri:  # those of api/ have no such links
            file.content_string = _led(file.content_string, "docs", files, config)
    readme = _led((ROOT / "README.md").read_text(encoding="utf-8"), "", files, config)
    files.append(File.generated(config, "index.md", content=readme))
    return files


def on_page_content(html: str, **kwargs: Any) -> str:
    """Without the dash that mkdocstrings puts before a description when there is none."""
    return re.sub(r'\u2013\s*<div class="doc-md-description">\s*</div>', "", html)


def on_page_markdown(markdown: str, page: Page, **kwargs: Any) -> None:
    if page.file.src_uri == "drawing.md":  # wide pictures, short contents
        page.meta["hide"] = ["toc"]


def _apart(text: str) -> str:
    """What shares a line one by one: griffe gives all its parameters the default of the first."""
    return _TOGETHER.sub(
        lambda match: "".join(f"{match[1]}{name}{match[3]}" for name in match[2].split(", ")), text
    )


class Docstrings(griffe.Extension):
    """Give what is known from a stub the docstring that its compiled module has."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = _apart(obj.docstring.value)
        if obj.filepath.suffix != ".pyi" or obj.name == "__init__":
            return
        if obj.is_attribute and "property" not in obj.labels:
            return
        found = importlib.import_module(obj.module.path)
        for name in obj.path.removeprefix(obj.module.path).split(".")[1:]:
            found = getattr(found, name, None)
        text = re.sub(r"\A[\w.]+\(.*\)\n+", "", inspect.getdoc(found) or "")  # Cython's signature
        if text:
            text = re.sub(r"::$", ":", text, flags=re.MULTILINE)  # reST's mark of a literal block
            obj.docstring = griffe.Docstring(_apart(text), parent=obj, parser="numpy")
