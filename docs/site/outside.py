"""A hook of MkDocs that brings the files outside docs/ to which a page links into the site, and notebooks.

The pages write a link as it leads from their own file in the repository, so that it works on a Git host. In the site,
a linked file such as configs/pretrain/demo.yaml or CHANGELOG.md becomes a page of its own below files/, and a notebook
a page with its outputs.
"""

import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = "files"  # folder in the site
NOTEBOOK = ".ipynb"
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\[[^\]]*\]\()([^)\s]+)(\))")
LANGUAGES = {".yaml": "yaml", ".py": "python"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each linked file outside docs/, and for those to which such a page links."""
    unread = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    known = set(unread)
    while unread:
        place = unread.pop()
        for target in sorted(linked_places(place, (ROOT / place).read_text(encoding="utf-8")) - known):
            if target.startswith("docs/") and not target.endswith(NOTEBOOK):
                continue  # MkDocs itself has it, or says that it is not there
            path = ROOT / target
            if target.startswith("..") or not path.is_file():
                raise PluginError(f"{place}: links to {target}, which is no file of the repository")
            known.add(target)
            unread += [target] if path.suffix == ".md" else []
            text = path.read_text(encoding="utf-8")
            content = text if path.suffix == ".md" else as_page(target, text)
            if path.suffix == NOTEBOOK:
                content = "\n\n".join(as_markdown(json.loads(text)))
            files.append(File.generated(config, site_uri(target), content=content, inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the links from and to the files outside docs/ lead to their places in the site."""
    here = page.file.src_uri
    place = here.removeprefix(f"{OUTSIDE}/") if here.startswith(f"{OUTSIDE}/") else f"docs/{here}"
    folder = posixpath.dirname(here) or "."

    def in_site(target: str) -> str:
        linked = resolved(place, target)
        if linked is None:
            return target
        anchor = f"#{urlsplit(target).fragment}" if urlsplit(target).fragment else ""
        return posixpath.relpath(site_uri(linked), folder) + anchor

    return change_links(markdown, in_site)


def site_uri(place: str) -> str:
    """Return the page that shows a file of the repository, as MkDocs names its source."""
    if place.startswith("docs/"):
        return place.removeprefix("docs/") + (".md" if place.endswith(NOTEBOOK) else "")
    return f"{OUTSIDE}/{place}" if place.endswith(".md") else f"{OUTSIDE}/{place}.md"


def as_page(place: str, text: str) -> str:
    """Return a page that shows a file of code."""
    return f"# {place}\n\n```{LANGUAGES.get(Path(place).suffix, 'text')}\n{text.rstrip()}\n```\n"


def as_markdown(notebook: dict[str, Any]) -> Iterator[str]:
    """Yield the cells of a notebook, each program with the text and the pictures that it has put out."""
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        yield f"```python\n{text}\n```" if cell["cell_type"] == "code" else text
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                yield f"![output](data:image/png;base64,{''.join(data['image/png']).replace(chr(10), '')})"
            elif printed := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
                yield f"```text\n{printed}\n```"


def linked_places(place: str, markdown: str) -> set[str]:
    """Return the files of the repository to which a page links."""
    found: list[str] = []

    def note(target: str) -> str:
        linked = resolved(place, target)
        found.extend([linked] if linked else [])
        return target

    change_links(markdown, note)
    return set(found)


def resolved(place: str, target: str) -> str | None:
    """Return the path, from the root of the repository, to which a link leads; None for one that names no file so."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc or not parts.path or parts.path.startswith("/"):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(place), parts.path))


def change_links(markdown: str, change: Callable[[str], str]) -> str:
    """Return a page with the target of each of its links changed; what looks like a link in code is none."""

    def outside_code() -> Iterable[str]:
        end = 0
        for code in CODE.finditer(markdown):
            yield LINK.sub(lambda link: link[1] + change(link[2]) + link[3], markdown[end : code.start()])
            yield code[0]
            end = code.end()
        yield LINK.sub(lambda link: link[1] + change(link[2]) + link[3], markdown[end:])

    return "".join(outside_code())
