"""The report in a real browser, from the file system: it runs, fetches nothing, breaks no rule of its own policy, sorts, and shows brains.

`make test-browser` runs this; ELR_MRI_REPORT names another page to open, and the pictures of it land in build/browser.
"""

import io
import os
import re
import shutil
import subprocess
from pathlib import Path

import chromium
import numpy as np
import pytest
import tiny_study as study
from PIL import Image

from elr_mri import config
from elr_mri.findings.evaluate import evaluate
from elr_mri.findings.report import report

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium.found() is None, reason="no chromium: apt-get install chromium, or set CHROMIUM"),
]
PICTURES = Path(__file__).parents[2] / "build" / "browser"
SHOWN = "document.querySelector('#viewer-holder').dataset.drawn"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page that ELR_MRI_REPORT names, or that of a tiny synthetic study."""
    if given := os.environ.get("ELR_MRI_REPORT"):
        return Path(given)
    root = tmp_path_factory.mktemp("browser")
    made = study.make(root, n_subjects=40)
    study.add_pictures(made)
    folders = [study.predict(made, name, noise=noise) for name, noise in (("wide", 0.5), ("alexnet", 1.5))]
    evaluate(prediction_paths=[f / "predictions.tsv" for f in folders], settings=config.Evaluate(draws=100), out_dir=root / "findings")  # fmt: skip
    return report(
        tables_dir=root / "findings" / "tables",
        scans_path=root / "scans.tsv",
        pack_dir=root / "pack",
        settings=config.Report(reference="wide"),
        study=study.settings(made, effect_scale=1.0),
        page_path=root / "report.html",
        figures_dir=root / "figures",
        demographics_path=root / "demographics.tsv",
        explain_dir=root / "explain" / "wide",
    )


@pytest.fixture(scope="module")
def seen(page):
    """The browser with the page at desktop width."""
    with chromium.Browser(chromium.found()) as browser:
        browser.size(1200, 900)
        browser.open(page)
        yield browser


def _complaints(browser):
    """Errors of the console and of the policy, and whatever was asked of anything but this file and `data:`."""
    told = []
    for event in browser.events:
        given = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            told.append(given["exceptionDetails"]["exception"].get("description"))
        if event["method"] == "Runtime.consoleAPICalled" and given["type"] in ("error", "assert"):
            told.append([one.get("value") for one in given["args"]])
        if event["method"] == "Log.entryAdded" and given["entry"]["level"] == "error":
            told.append(given["entry"]["text"])
        if event["method"] == "Network.requestWillBeSent" and not re.match(
            "file:|data:|blob:", given["request"]["url"]
        ):
            told.append(given["request"]["url"])
    files = {e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent" and e["params"]["request"]["url"].startswith("file:")}  # fmt: skip
    return told + sorted(files)[1:]


def _canvas(browser, path=None):
    """What the viewer's canvas shows, (height, width, 3) 0 to 255."""
    box = browser.evaluate(
        "(() => { const c = document.querySelector('#viewer-holder .canvas'); c.scrollIntoView({block: 'center'});"
        " const b = c.getBoundingClientRect(); return {x: b.x + scrollX, y: b.y + scrollY, width: b.width, height: b.height}; })()"
    )
    return np.asarray(Image.open(io.BytesIO(browser.picture(path, box))).convert("RGB")).astype(float)


def _choose(browser, label, place, *, redraws=True):
    """Choose an option of one of the viewer's lists, and wait until it is drawn."""
    before = browser.evaluate(SHOWN)
    browser.evaluate(
        f"(() => {{ const s = [...document.querySelectorAll('.controls label')].find((l) => l.textContent.startsWith({label!r})).querySelector('select');"
        f" s.value = '{place}'; s.dispatchEvent(new Event('change')); }})()"
    )
    if redraws:
        browser.wait(f"{SHOWN} !== {before!r}")
    browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_the_page_opens_without_a_complaint_and_its_policy_holds(seen):
    assert seen.evaluate("document.querySelectorAll('main section').length") > 10
    assert "In short" in seen.evaluate("document.body.innerText")
    assert seen.evaluate("(() => { try { return eval('1'); } catch (e) { return e.name; } })()") is not None
    stopped = seen.evaluate(
        "new Promise((done) => { addEventListener('securitypolicyviolation', (e) => done(e.effectiveDirective), {once: true});"
        " const s = document.createElement('script'); s.textContent = 'window.stranger = 1'; document.head.append(s); setTimeout(() => done(null), 3000); })"
    )
    assert stopped == "script-src-elem" and seen.evaluate("window.stranger === undefined")
    seen.events.clear()  # that complaint was asked for
    seen.picture(PICTURES / "top-1200.png")


def test_a_table_sorts_by_click_and_by_key_and_says_so(seen):
    column = "[...document.querySelectorAll('#results table')[0].tBodies[0].rows].filter((r) => !r.classList.contains('group')).map((r) => parseFloat(r.cells[2].textContent))"
    head = "document.querySelector('#results thead th:nth-child(3)')"
    seen.evaluate(f"{head}.querySelector('[role=button]').click()")
    down = seen.evaluate(column)
    assert down == sorted(down, reverse=True) and seen.evaluate(f"{head}.getAttribute('aria-sort')") == "descending"
    seen.evaluate(f"{head}.querySelector('[role=button]').focus()")
    for kind in ("keyDown", "keyUp"):
        seen.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r" if kind == "keyDown" else "")  # fmt: skip
    up = seen.evaluate(column)
    assert up == sorted(down) and seen.evaluate(f"{head}.getAttribute('aria-sort')") == "ascending"
    assert len(set(down)) > 1


def test_the_viewer_shows_a_brain_and_answers_to_its_controls(seen):
    seen.evaluate("document.querySelector('#viewer-holder button').click()")
    seen.wait(f"{SHOWN} !== undefined")
    first = _canvas(seen, PICTURES / "viewer-saliency.png")
    assert first.std() > 10 and (first.max(axis=2) > 60).mean() > 0.03  # a brain, not an empty frame
    _choose(seen, "Overlay", 0)
    plain = _canvas(seen, PICTURES / "viewer-plain.png")
    colour = (plain.max(axis=2) - plain.min(axis=2) > 40).mean()
    assert np.abs(first - plain).max() > 40 and (first.max(axis=2) - first.min(axis=2) > 40).mean() > colour
    n = int(seen.evaluate("document.querySelectorAll('.controls label')[1].querySelectorAll('option').length"))
    _choose(seen, "Overlay", n - 1)
    regions = _canvas(seen, PICTURES / "viewer-regions.png")
    assert np.abs(regions - plain).max() > 40 and np.abs(regions - first).max() > 40
    seen.evaluate("(() => { const r = document.querySelector('.controls input[type=range]'); r.value = 0; r.dispatchEvent(new Event('input')); })()")  # fmt: skip
    faded = _canvas(seen)
    assert np.abs(faded - plain).mean() < np.abs(regions - plain).mean() / 2
    if seen.evaluate("document.querySelectorAll('.controls label')[0].querySelectorAll('option').length") > 1:
        _choose(seen, "Image", 1)
        assert np.abs(_canvas(seen, PICTURES / "viewer-scan.png") - faded).max() > 40
    _choose(seen, "View", 1, redraws=False)
    assert np.abs(_canvas(seen, PICTURES / "viewer-solid.png") - faded).max() > 40
    assert not _complaints(seen)


def test_the_page_fits_a_phone_and_paper(seen):
    seen.size(390, 844)
    assert seen.evaluate("document.documentElement.scrollWidth") <= 390
    seen.evaluate("scrollTo(0, 0)")
    seen.picture(PICTURES / "top-390.png")
    seen.size(1200, 900)  # on a desk no table goes on beyond the page, folded away or not
    seen.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    wide = "[...document.querySelectorAll('.wide')].filter(one => one.scrollWidth > one.clientWidth + 1)"
    assert not seen.evaluate(wide + ".map(one => `${one.closest('section').id} ${one.scrollWidth}`)")
    for width, height in ((390, 844), (1200, 900)):
        seen.size(width, 4000)
        for k in range(int(seen.evaluate("document.documentElement.scrollHeight")) // 4000 + 1):
            seen.evaluate(f"scrollTo(0, {4000 * k})")
            seen.picture(PICTURES / f"whole-{width}-{k}.png")
        seen.size(width, height)
    seen.pdf(PICTURES / "report.pdf")
    assert (PICTURES / "report.pdf").read_bytes().startswith(b"%PDF")
    assert not _complaints(seen)


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="no pdftotext: apt-get install poppler-utils")
def test_on_paper_a_long_table_has_its_heads_on_every_page(seen, tmp_path):
    seen.evaluate(
        "(() => { const body = document.querySelector('#results table').tBodies[0], row = body.rows[1];"
        " for (let k = 0; k < 200; k++) { const copy = row.cloneNode(true); copy.cells[0].textContent = `made-up-${k}`; body.append(copy); } })()"
    )
    seen.pdf(tmp_path / "long.pdf")
    pages = subprocess.run(["pdftotext", "-layout", tmp_path / "long.pdf", "-"], capture_output=True, text=True, check=True).stdout.split("\f")  # fmt: skip
    held = [text for text in pages if "made-up-" in text]
    assert len(held) > 2 and all(re.search(r"method +accuracy", text) for text in held)


def test_without_webgl2_one_line_stands_in_the_viewer_s_place(page):
    with chromium.Browser(chromium.found(), "--disable-gpu", "--disable-3d-apis") as browser:
        browser.size(1200, 900)
        browser.open(page)
        browser.evaluate("document.querySelector('#viewer-holder button').click()")
        browser.wait("!document.querySelector('#viewer-holder button')")
        assert "no WebGL2" in browser.evaluate("document.querySelector('#viewer-holder').innerText")
        assert not _complaints(browser)
