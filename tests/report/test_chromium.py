"""The page in a real browser: nothing on its console, nothing wider than the screen."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from subl.report import render
from subl.report.page import POLICY

from .sample import large_document, sample_document
from .scans import scan_document

DOCUMENTS = {"small": sample_document(), "large": large_document(), "scan": scan_document()}
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@cache
def page(document: str) -> str:
    return render(DOCUMENTS[document])


@pytest.fixture(scope="module")
def chromium() -> str:
    for name in NAMES:
        if found := shutil.which(name):
            return found
    reason = f"no browser: none of {', '.join(NAMES)} is on PATH (Debian: apt install chromium)"
    if os.environ.get("SUBL_REQUIRE_CHROMIUM") == "1":
        pytest.fail(f"SUBL_REQUIRE_CHROMIUM=1, but {reason}")
    pytest.skip(reason)


def browse(chromium: str, folder: Path, html: str, *options: str) -> tuple[list[str], str]:
    """Open `html` from a file: (the console's lines, the DOM that came of it)."""
    page = folder / "page.html"
    page.write_text(html, encoding="utf-8")
    command = [
        chromium,
        "--headless",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--enable-logging=stderr",
        "--v=0",
        f"--user-data-dir={folder / 'profile'}",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
        *options,
        "--dump-dom",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, timeout=3600, check=True)
    log = done.stderr.decode("utf-8", "replace").splitlines()
    return [line for line in log if "CONSOLE" in line], done.stdout.decode("utf-8", "replace")


@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
def test_the_console_stays_silent(chromium: str, tmp_path: Path, scheme: int) -> None:
    option = f"--blink-settings=preferredColorScheme={scheme}"
    console, dom = browse(chromium, tmp_path, page("small"), option)
    assert console == []
    assert "What differs from the published protocol" in dom
    assert '&lt;script&gt;</mark>alert("owned")' in dom


def test_the_policy_stops_a_script_and_the_console_would_tell(
    chromium: str, tmp_path: Path
) -> None:
    assert POLICY in page("small")
    script = "<script>document.title='x'</script>"
    broken = page("small").replace("<main>", f"{script}<main>")
    console, dom = browse(chromium, tmp_path, broken)
    assert any("Content Security Policy" in line for line in console)
    assert "<title>x</title>" not in dom


def measured(
    chromium: str, folder: Path, width: int, expression: str, document: str = "small"
) -> list[float]:
    """Numbers that JavaScript finds in the page, in a frame `width` wide (a window can't be as
    narrow as a phone). `view` is the frame, `root` its document's element."""
    open_page = re.sub("<meta http-equiv=.*?>", "", page(document), count=1)
    quoted = open_page.replace("&", "&amp;").replace('"', "&quot;")
    frame = (
        f'<!doctype html><iframe style="width:{width}px;height:700px;border:0" srcdoc="{quoted}">'
        "</iframe><script>onload = () => { const view = document.querySelector('iframe');"
        "const root = view.contentDocument.documentElement;"
        f"document.title = ({expression}).join(' ') }}</script>"
    )
    _, dom = browse(chromium, folder, frame, "--window-size=1400,900", "--hide-scrollbars")
    title = re.search("<title>(.*?)</title>", dom)
    assert title, "the measuring script did not run"
    return [float(each) for each in title[1].split()]


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("width", [360, 1200])
def test_texts_of_a_drawing_stand_apart(
    chromium: str, tmp_path: Path, width: int, document: str
) -> None:
    """Above one another they may be near: boxes of letters are higher than letters."""
    touching, texts = measured(
        chromium,
        tmp_path,
        width,
        "(drawings => [drawings.flatMap(boxes => boxes.flatMap((a, i) => boxes.slice(i + 1).filter("
        "b => Math.min(a.right, b.right) - Math.max(a.left, b.left) > -4 &&"
        "Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4))).length,"
        "drawings.flat().length])([...root.querySelectorAll('svg')].map(svg =>"
        "[...svg.querySelectorAll('text')].filter(t => t.getClientRects().length)"
        ".map(t => t.getBoundingClientRect())))",
        document,
    )
    assert texts > 50
    assert touching == 0


@pytest.mark.parametrize("document", ["small", "scan"])
@pytest.mark.parametrize("width", [360, 420, 820, 999, 1000, 1200])
def test_no_screen_scrolls_sideways_or_has_tiny_text(
    chromium: str, tmp_path: Path, width: int, document: str
) -> None:
    inner, scroll, smallest_text_px = measured(
        chromium,
        tmp_path,
        width,
        "[view.contentWindow.innerWidth, root.scrollWidth, "
        "[...root.querySelectorAll('svg text')].filter(t => t.getClientRects().length)"
        ".map(t => parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a)"
        ".reduce((a, b) => Math.min(a, b), 99).toFixed(2)]",
        document,
    )
    assert inner == width
    assert scroll <= width
    assert smallest_text_px >= 11
