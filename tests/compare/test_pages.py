"""The report in a real browser, as wide as phones and desks, light and dark: nothing sticks out, nothing overlaps."""

from __future__ import annotations

from typing import Any

import documents
import pytest
from browser import BROWSER, SCHEMES, WHY_NOT, complaints

from equipoise.compare.report import render

WIDTHS = (360, 390, 1280)
PAGES = [f"{name} at {width}" for name in documents.ALL for width in WIDTHS]

pytestmark = pytest.mark.skipif(BROWSER is None, reason=WHY_NOT)


@pytest.fixture(scope="module", params=SCHEMES)
def looked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """All pages, looked at once in each scheme."""
    pages = {name: render(make()) for name, make in documents.ALL.items()}
    return request.param, complaints(pages, WIDTHS, request.param, tmp_path_factory.mktemp("pages"))


@pytest.mark.parametrize("page", PAGES)
def test_nothing_to_complain_about(looked: tuple[str, dict[str, Any]], page: str) -> None:
    scheme, found = looked
    seen = found[page]
    assert seen["wide"] <= int(page.rsplit(" ", 1)[1]), "the page scrolls sideways"
    for trouble in ("out", "overlaps", "cut", "small", "faint", "unnamed"):
        assert seen[trouble] == [], trouble
    assert seen["requests"] == 0
    assert seen["charts"] >= 3
    assert seen["texts"] >= 30
    light = int(seen["paper"].removeprefix("rgb(").split(",")[0]) > 128
    assert light == (scheme == "light")
