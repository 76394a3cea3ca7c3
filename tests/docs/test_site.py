"""The site of docs/ is built without a network, shows every page, and stops at what is not there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import documents
from tests.support.documents import ROOT

pytest.importorskip("mkdocs", reason="the site needs mkdocs-material and mkdocstrings: pip install -e '.[docs]'")

# A build that asks the network for anything ends with an error.
OFFLINE = """
import socket
def refuse(*of): raise OSError("the build asks the network")
socket.socket.connect = socket.getaddrinfo = refuse
from mkdocs.__main__ import cli
cli()
"""
LOADED = re.compile(r"<(?:script|img|iframe)[^>]*\bsrc=\"([^\"]*)\"|<link[^>]*\bhref=\"([^\"]*)\"[^>]*>")
PAGES = [page for page in documents.pages() if ROOT / "docs" in page.parents]


def build(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", OFFLINE, "build", *options], cwd=ROOT, capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build("--site-dir", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def html_of(site: Path, page: Path) -> str:
    name = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
    return (site / ("index.html" if name == "README.html" else name)).read_text()


def test_headings_have_the_anchors_of_a_git_host(site: Path) -> None:
    for page in PAGES:
        there = set(re.findall(r"\bid=\"([^\"]*)\"", html_of(site, page)))
        assert documents.anchors(page.read_text()) <= there, page


def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    for path in site.rglob("*.html"):
        found = [src or href for src, href in LOADED.findall(path.read_text())]
        assert [target for target in found if target.startswith(("http:", "https:", "//"))] == [], path
    for path in site.rglob("*.css"):
        assert re.findall(r"url\(\s*[\"']?(?:https?:)?//", path.read_text()) == [], path


def test_files_outside_docs_are_shown_where_pages_link_them(site: Path) -> None:
    assert "files/configs/pretrain/demo.yaml.html" in html_of(site, ROOT / "docs" / "start" / "quickstart.md")
    shown = re.sub(r"<[^>]*>", "", (site / "files" / "configs" / "pretrain" / "demo.yaml.html").read_text())
    for line in (ROOT / "configs" / "pretrain" / "demo.yaml").read_text().splitlines()[:3]:
        assert line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in shown


def test_the_library_page_shows_docstrings(site: Path) -> None:
    page = html_of(site, ROOT / "docs" / "reference" / "library.md")
    for name in re.findall(r"^::: (\S+)$", (ROOT / "docs" / "reference" / "library.md").read_text(), re.MULTILINE):
        assert f'id="{name}"' in page
    assert "the file holds no such network, not a whole one, or several" in page  # of read_pretrained's Raises


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lines", "faults"),
    [
        ([], []),
        (
            ["[a](nowhere.md)", "[b](index.md#unsaid)", "![c](unseen.png)", "[d](/absolute.md)"],
            ["nowhere.md", "#unsaid", "unseen.png", "/absolute.md"],
        ),
        (["[x](../nowhere.yaml)"], ["nowhere.yaml"]),
        (["::: site_example.nowhere"], ["site_example.nowhere"]),
    ],
    ids=["nothing", "links", "a file outside docs", "a name"],
)
def test_a_build_stops_at_what_is_not_there(lines: list[str], faults: list[str], tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    (docs / "site").mkdir(parents=True)
    (docs / "site" / "outside.py").write_text((ROOT / "docs" / "site" / "outside.py").read_text())
    sound = ["# Page", "[file](../whole.yaml) and [part](index.md#part)", "## Part", "::: site_example.there"]
    (docs / "index.md").write_text("\n\n".join([*sound, *lines]))
    (tmp_path / "whole.yaml").write_text("a: 1\n")
    (tmp_path / "site_example.py").write_text('def there() -> None:\n    """Do nothing."""\n')
    (tmp_path / "mkdocs.yml").write_text(f"INHERIT: {ROOT / 'mkdocs.yml'}\nnav: [index.md]\n")
    done = build("--config-file", str(tmp_path / "mkdocs.yml"))
    assert (done.returncode != 0) == bool(faults), done.stderr
    assert [fault for fault in faults if fault not in done.stderr] == []
