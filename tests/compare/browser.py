"""A real browser that opens pages and says what is wrong with how they look."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
WHY_NOT = "needs Chromium or Chrome on the PATH (Debian: apt-get install chromium)"
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr",
)
SCHEMES = {"dark": 0, "light": 1}

# Looks into each frame and writes down everything that a reader would complain about.
PROBE = """
const parsed = (color) => (color.match(/[\\d.]+/g) || []).map(Number);
const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
function contrast(a, b) {
  const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
  return (x + 0.05) / (y + 0.05);
}
function behind(element, style) {
  for (let each = element; each; each = each.parentElement) {
    const color = parsed(style(each).backgroundColor);
    if (color.length === 3 || color[3] === 1) return color;
  }
  return [255, 255, 255];
}
function look(frame) {
  const page = frame.contentDocument, wide = frame.clientWidth;
  const style = (e) => frame.contentWindow.getComputedStyle(e);
  page.querySelectorAll("details").forEach((each) => { each.open = true; });
  const found = { out: [], overlaps: [], cut: [], small: [], faint: [], unnamed: [], texts: 0, charts: 0 };
  found.paper = style(page.body).backgroundColor;
  found.wide = page.documentElement.scrollWidth;
  found.requests = frame.contentWindow.performance.getEntriesByType("resource").length;
  for (const each of page.body.querySelectorAll("*")) {
    const box = each.getBoundingClientRect();
    if (box.width && !each.closest(".scroll") && (box.right > wide + 0.5 || box.left < -0.5))
      found.out.push(each.tagName + " " + each.textContent.trim().slice(0, 40));
    const own = [...each.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !box.width || each.closest("title, desc")) continue;
    const ratio = contrast(parsed(each.tagName === "text" ? style(each).fill : style(each).color), behind(each, style));
    if (ratio < 4.5) found.faint.push(each.textContent.trim().slice(0, 40) + " " + ratio.toFixed(2));
  }
  const strokes = ".line, .interval, .mean, .plain-mark, .other, .zero, .change, .ideal, .axis";
  const fills = ".best-mark, .size, .bar";
  for (const each of page.querySelectorAll(`${strokes}, ${fills}`)) {
    const color = each.matches(fills) ? style(each).fill : style(each).stroke;
    const ratio = contrast(parsed(color), behind(each.closest("figure, ul"), style));
    if (ratio < 3) found.faint.push(each.getAttribute("class") + " " + ratio.toFixed(2));
  }
  for (const chart of page.querySelectorAll("svg[role=img]")) {
    found.charts += 1;
    const named = (attribute) => page.getElementById(chart.getAttribute(attribute) || "")?.textContent;
    if (!named("aria-labelledby") || !named("aria-describedby")) found.unnamed.push(chart.id);
    const edge = chart.getBoundingClientRect();
    const texts = [...chart.querySelectorAll("text")].map((t) => [t.textContent, t.getBoundingClientRect(), t]);
    found.texts += texts.length;
    texts.forEach(([words, a, element], i) => {
      if (a.left < edge.left - 1 || a.right > edge.right + 1) found.cut.push(chart.id + ": " + words);
      if (a.height < 11) found.small.push(chart.id + ": " + words + " " + a.height.toFixed(1));
      for (const [other, b] of texts.slice(i + 1)) {
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (across > 0.5 && down > 2) found.overlaps.push(chart.id + ": " + words + " / " + other);
      }
    });
  }
  return found;
}
onload = () => {
  const found = [...document.querySelectorAll("iframe")].map((frame) => [frame.title, look(frame)]);
  document.getElementById("found").textContent = JSON.stringify(Object.fromEntries(found));
};
"""


def shown(page: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The page as the browser has it after loading, and what the browser logs."""
    command = [str(BROWSER), *QUIET, f"--user-data-dir={folder / 'profile'}", *options, "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def complaints(pages: Mapping[str, str], widths: tuple[int, ...], scheme: str, folder: Path) -> dict[str, Any]:
    """What the probe finds in each page at each width, by `name at width`."""
    frames = "".join(
        f'<iframe title="{name} at {width}" style="border: 0; width: {width}px" srcdoc="{html.escape(page)}"></iframe>'
        for name, page in pages.items()
        for width in widths
    )
    outer = folder / "probe.html"
    head = (
        f'<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark"><script>{PROBE}</script>'
    )
    outer.write_text(f'{head}<pre id="found"></pre>{frames}', encoding="utf-8")
    dumped = shown(outer, folder, f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}").stdout
    said = re.search(r'<pre id="found">(.*?)</pre>', dumped, re.DOTALL)
    assert said is not None, "the browser did not show the probe"
    found: dict[str, Any] = json.loads(html.unescape(said[1]))
    return found
