"""The README and the guides tell the truth: their code runs, the catalogue is the cards', names and links exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import equipoise
from equipoise.catalog import CARDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md"))]
BLOCK = re.compile(r"```python\n(.*?)```", flags=re.DOTALL)
WITH_CODE = [page for page in PAGES if BLOCK.search((ROOT / page).read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", WITH_CODE)
def test_every_python_block_runs(page, tmp_path, monkeypatch):
    """In order, in one namespace, as a reader would paste them into a fresh session."""
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        exec(block, namespace)


def test_there_is_code_to_run():
    assert len(BLOCK.findall(README)) >= 5
    assert {"README.md", "docs/heads.md", "docs/multitask.md", "docs/ranking.md"} <= set(WITH_CODE)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", text):
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), path
        if anchor:
            heads = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}, anchor


def test_catalogue_follows_the_cards():
    result = subprocess.run([sys.executable, ROOT / "tools" / "readme.py", "--check"], check=False)
    assert result.returncode == 0, "the README's catalogue is out of date: run `make readme`"


def test_every_loss_is_in_the_catalogue_and_public():
    for card in CARDS:
        assert f"`{card.module.__name__}`" in README
        assert getattr(equipoise, card.module.__name__) is card.module
        if card.function:
            assert getattr(equipoise, card.function.__name__) is card.function


def test_the_public_surface_is_listed_once_and_resolves():
    listed = [name for names in equipoise._HOME.values() for name in names]
    assert sorted(listed) == sorted(equipoise.__all__)
    assert len(set(listed)) == len(listed)
    for name in equipoise.__all__:
        assert getattr(equipoise, name).__name__ == name
    assert set(equipoise.__all__) <= set(dir(equipoise))


def test_names_that_type_checkers_see_are_the_public_ones():
    """The imports under TYPE_CHECKING are the ones that `__getattr__` makes at run time."""
    source = Path(equipoise.__file__).read_text(encoding="utf-8")
    block = source.split("if TYPE_CHECKING:")[1].split("__version__")[0]
    names = re.findall(
        r"\b(?!from|import|classification|multitask|ranking|weights)\w+\b", re.sub(r"from \S+ import", "", block)
    )
    assert sorted(names) == sorted(equipoise.__all__)


def test_unknown_names_raise_attribute_error():
    assert not hasattr(equipoise, "no_such_loss")
