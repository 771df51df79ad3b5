#!/usr/bin/env python3
"""The router report in a real browser: tests/tools/report_browser_test.py PROGRAM

Trains two small models, makes reports of them, opens these in headless Chromium and holds the numbers
on the page against the JSON files. Needs chromium, chromium-driver and selenium (tools/setup.sh
--browser); without them one test counts as skipped. The last line is `N passed, N failed, N skipped`.
"""
import base64
import json
import math
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import traceback
import zlib

try:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
except ImportError:
    webdriver = None

CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
SMALL = ["model.width=16", "model.mlp=24", "model.heads=2", "model.layers=2", "model.patch=4",
         "moe.layers=0,1", "moe.experts=4", "moe.top_k=2", "train.steps=30", "train.batch=16",
         "log.every=5", "eval.every=15", "data.two_view=true", "augment.area_min=0.5",
         "schedule.warmup_steps=5", "schedule.peak=0.01", "log.s_matrices=6"]
PRC = ["prc.form=paper", "prc.lambda_diag=0.05", "prc.lambda_off=0.05"]


def program(*arguments):
    result = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True)
    assert result.returncode == 0, (arguments, result.stdout[-500:], result.stderr[-500:])
    return result.stdout


def settings(values):
    return [word for value in values for word in ("--set", value)]


def train(run, data, more=()):
    program("train", "--recipe", "quick-vmoe", "--data", data, "--out", run, *settings([*SMALL, *more]))
    program("audit", "--checkpoint", run, "--data", data, "--json", run + "/audit.json")


def write_png(path, size, seed):
    rows = b"".join(b"\0" + bytes((seed * 37 + 13 * x * x + 7 * y * (c + 1)) % 256
                                  for x in range(size) for c in range(3)) for y in range(size))

    def chunk(kind, data):
        return (struct.pack(">I", len(data)) + kind + data +
                struct.pack(">I", zlib.crc32(kind + data)))

    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)) +
                   chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


EVIL_CLASS = "<img src=x onerror=\"document.title='hacked'\">"
EVIL_FILE = "</script><script>document.title='hacked'<"


def write_folder(root):
    for split in ("train", "test"):
        for number, name in enumerate((EVIL_CLASS, "plain & 'quoted'")):
            folder = os.path.join(root, split, name)
            os.makedirs(folder)
            for i in range(10):
                file = EVIL_FILE.replace("/", "") if i == 0 else f"picture {i}"
                write_png(os.path.join(folder, file + ".png"), 16, number * 100 + i)


def softmax(x):
    largest = max(x)
    exps = [math.exp(v - largest) for v in x]
    return [v / sum(exps) for v in exps]


def philox(counter, key):
    c = [counter & 0xFFFFFFFF, counter >> 32, 0, 0]
    k = [key & 0xFFFFFFFF, key >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def normal(key, i):
    c = philox(i // 2, key)
    high, low = (c[2], c[3]) if i % 2 else (c[0], c[1])
    return statistics.NormalDist().inv_cdf((((high << 32 | low) >> 12) + 0.5) / 2 ** 52)


class Report:
    """What --json wrote, with its arrays decoded."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.data = json.load(file)
        self.runs = self.data["runs"]

    def numbers(self, text, kind):
        raw = base64.b64decode(text)
        return struct.unpack(f"<{len(raw) // struct.calcsize(kind)}{kind}", raw)

    def patches(self, run):
        return (run["model"]["image_size"] // run["model"]["patch"]) ** 2

    def first(self, run, layer, level, image):
        patches = self.patches(run)
        experts = self.numbers(run["layers"][layer]["experts_of"], "h")
        at = (level * len(run["images"]) + image) * patches
        return [experts[2 * (at + p)] for p in range(patches)]

    def flips(self, run, layer, level, image):
        now, was = self.first(run, layer, level, image), self.first(run, layer, 0, image)
        return sum(a != b for a, b in zip(now, was))

    def logits(self, run, layer, image, token):
        experts = run["layers"][layer]["experts"]
        tokens = self.patches(run) + (1 if run["model"]["class_token"] else 0)
        at = (image * tokens + token) * experts
        return self.numbers(run["layers"][layer]["logits"], "f")[at:at + experts]


class Page:
    def __init__(self, browser, path, report):
        self.browser, self.report = browser, report
        browser.get_log("browser")
        browser.get("file://" + path)
        self.path = path

    def one(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector):
        return self.one(selector).text

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def click(self, element):
        # Not under the bar that sticks to the top.
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def slide(self, selector, value):
        self.run("arguments[0].value = arguments[1];"
                 "arguments[0].dispatchEvent(new Event('input'))", self.one(selector), value)

    def set(self, selector, value):
        self.run("arguments[0].value = arguments[1];"
                 "arguments[0].dispatchEvent(new Event('change'))", self.one(selector), value)

    def grid(self, name):
        return [int(node.text) for node in self.all(f"#{name} .number")]

    def table(self, selector):
        return [[cell.text for cell in row.find_elements(By.CSS_SELECTOR, "th, td")]
                for row in self.all(f"{selector} tbody tr")]


def quiet(page):
    """Nothing was fetched, nothing went wrong."""
    errors = [entry for entry in page.browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert errors == [], errors
    fetched = page.run("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert [name for name in fetched if not name.startswith(("data:", "blob:"))] == [], fetched


def test_opens(page):
    ids = [node.get_attribute("id") for node in page.all(".panel")]
    assert ids == ["experts", "sides", "pairs", "s-matrix", "load", "tables", "classes", "playground",
                   "provenance"], ids
    for panel in page.all(".panel"):
        assert len(panel.find_elements(By.CSS_SELECTOR, ".formula")) == 1
        assert panel.find_elements(By.CSS_SELECTOR, "svg, table"), panel.get_attribute("id")
    width = page.run("return document.documentElement.scrollWidth")
    assert width <= 1280, width
    quiet(page)


def test_noise_slider_and_layers(page):
    report = page.report
    for image, layer, level in ((0, 0, 0), (0, 1, 20), (2, 0, 13), (3, 1, 7)):
        page.click(page.one(f"#strip button[data-image='{image}']"))
        page.click(page.one(f"#layer-{layer}"))
        page.slide("#noise", level)
        for side, run in enumerate(report.runs):
            assert page.grid(f"side-{side}") == report.first(run, layer, level, image)
            flips = report.flips(run, layer, level, image)
            walked = sum(
                sum(a != b for a, b in zip(report.first(run, layer, i, image),
                                           report.first(run, layer, i - 1, image)))
                for i in range(1, level + 1))
            text = page.text(f"#side-flips-{side}")
            assert text.startswith(f"{flips} of {report.patches(run)} patches"), text
            assert f"; {walked} changes on the way" in text, text
            assert len(page.all(f"#side-{side} g.flipped")) == flips
        assert page.grid("grid-0") == report.first(report.runs[0], layer, level, image)
        # The cursor of a chart: from its left edge to its right one.
        cursor = float(page.one("#sides svg .cursor").get_attribute("x1"))
        assert abs(cursor - (66 + level / 20 * (530 - 66))) < 1e-6, cursor
        assert page.text("#noise-text") == f"{report.runs[0]['sigmas'][level]:.3f}"
    quiet(page)


def test_hover_and_keys(page):
    report, run = page.report, page.report.runs[0]
    page.run("change({image: 1, layer: 0, level: 0, patch: 0, run: 0})")
    first = page.one("#grid-0 g[data-patch='0']")
    page.run("arguments[0].focus()", first)
    first.send_keys(Keys.ARROW_RIGHT)
    text = page.text("#experts-readout")
    experts = report.numbers(run["layers"][0]["experts_of"], "h")
    gates = report.numbers(run["layers"][0]["gates"], "f")
    cell = report.patches(run) + 1  # image 1, patch 1
    assert text == (f"Patch 1 (row 0, column 1, {part_name(report, run, 1, 1)}): first expert "
                    f"{experts[2 * cell]}, weight {gates[2 * cell]:.4f}; second expert "
                    f"{experts[2 * cell + 1]}, weight {gates[2 * cell + 1]:.4f}"), text
    strip = page.one("#strip button[data-image='1']")
    page.run("arguments[0].focus()", strip)
    strip.send_keys(Keys.ARROW_RIGHT)
    assert page.one("#strip button[data-image='2']").get_attribute("aria-pressed") == "true"
    quiet(page)


def part_name(report, run, image, patch):
    part = report.numbers(run["parts"], "B")[image * report.patches(run) + patch]
    return ["background", "edge", "shape"][part]


def test_run_choice(page):
    report = page.report
    page.run("change({image: 0, layer: 1, level: 10, run: 0})")
    page.click(page.one("#experts-run-1"))
    assert page.grid("grid-1") == report.first(report.runs[1], 1, 10, 0)
    assert page.one("#tables")  # still whole
    page.run("change({run: 0})")
    quiet(page)


def test_noise_is_the_programs(page):
    key = page.report.runs[0]["images"][1]["noise_key"]
    shown = page.run("return Array.from(normals(arguments[0], 40))", key)
    expected = [normal(int(key), i) for i in range(40)]
    assert max(abs(a - b) for a, b in zip(shown, expected)) < 1e-9
    size = page.report.runs[0]["model"]["image_size"]
    pixel = page.run("""
        const done = new NoisyPicture(report.runs[0]);
        return done.at(1, 20).then(() => [done.pixels.data[0], done.noise[0],
                                          done.noise[arguments[0]]])""", size * size)
    assert abs(pixel[1] - expected[0]) < 1e-9
    assert abs(pixel[2] - normal(int(key), size * size)) < 1e-9  # green is a plane further
    quiet(page)


def test_pairs(page):
    report, run = page.report, page.report.runs[0]
    page.run("change({image: 2, layer: 1, run: 0})")
    patches, experts = report.patches(run), run["layers"][1]["experts"]
    match = report.numbers(run["match"], "i")[2 * patches:3 * patches]
    flat = report.numbers(run["flat"], "B")[4 * patches:6 * patches]
    clean = report.numbers(run["layers"][1]["view_probabilities"], "f")

    def vector(view, patch):
        at = ((2 * 2 + view) * patches + patch) * experts
        return clean[at:at + experts]

    pairs = [(p, q) for p, q in enumerate(match) if q >= 0]
    counted = [(p, q) for p, q in pairs if not flat[p] and not flat[patches + q]]
    same = sum(vector(0, p).index(max(vector(0, p))) == vector(1, q).index(max(vector(1, q)))
               for p, q in counted)
    assert page.text("#pairs-count").startswith(f"{same} of {len(counted)} pairs")
    assert len(page.all("#pairs path[data-pair]")) == len(pairs)
    p, q = pairs[len(pairs) // 2]
    page.click(page.one(f"#pairs circle[data-patch='{p}']"))
    text = page.text("#pairs-readout")
    trace = sum(a * b for a, b in zip(vector(0, p), vector(1, q)))
    assert f"patch {p} of view 1 and {q} of view 2" in text, text
    assert f"sum of the diagonal {trace:.4f}" in text, text
    quiet(page)


def test_s_matrix(page):
    run = page.report.runs[0]
    with open(os.path.join(FOLDER, "base/metrics.jsonl"), encoding="utf-8") as file:
        frames = [line for line in map(json.loads, file) if line["kind"] == "s"]
    assert [frame["step"] for frame in frames] == [5, 10, 15, 20, 25, 30]
    page.run("change({layer: 1, run: 0})")
    n = run["layers"][1]["experts"]
    for at in (0, 3, 5):
        page.slide("#s-frame", at)
        s = frames[at]["block_1_s"]
        diagonal = sum((1 - s[i * n + i]) ** 2 for i in range(n)) / n
        off = sum(s[i * n + j] ** 2 for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
        assert page.text("#s-readout").startswith(
            f"Step {frames[at]['step']}: diagonal term {diagonal:.4f}, off-diagonal term {off:.4f}")
        cells = [node.text for node in page.all("#s-matrix svg")[0].find_elements(By.CSS_SELECTOR, ".cell")]
        assert cells == [f"{x:.2f}" for x in s], cells
    quiet(page)


def test_load(page):
    with open(os.path.join(FOLDER, "base/metrics.jsonl"), encoding="utf-8") as file:
        lines = [line for line in map(json.loads, file) if line["kind"] == "train"]
    page.run("change({layer: 0, run: 0})")
    load = lines[-1]["block_0_load"]
    assert page.text("#load-readout") == (
        f"{len(lines)} of {len(lines)} lines of the log. At the end: busiest "
        f"{max(load) * len(load):.2f}, emptiest {min(load) * len(load):.2f} fair shares.")
    rows = page.run("return document.getElementById('load').csvRows()")
    assert [row[3:3 + len(load)] for row in rows[1:]] == [line["block_0_load"] for line in lines]
    events = [node.text for node in page.all("#load-events li")]
    assert any("resume" in text for text in events), events
    quiet(page)


def test_tables(page):
    audits = []
    for name in ("base", "prc"):
        with open(os.path.join(FOLDER, name, "audit.json"), encoding="utf-8") as file:
            audits.append(json.load(file))
    layers = [layer for audit in audits for layer in audit["layers"]]
    rows = {row[0]: row[1:] for row in page.table("#audit-table")}
    for name, key in (("same first expert", "match_top1"),
                      ("the same two in any order", "match_top2_any_order")):
        assert rows[name] == [f"{100 * l[key]:.2f} % ± {100 * l[key + '_se']:.2f}" for l in layers], name
    assert rows["by chance"] == [f"{100 * l['match_top1_chance']:.2f} %" for l in layers]
    for name, key in (("mutual information, nats", "mutual_information"), ("mean probability, second", "confidence_second"),
                      ("effective experts", "effective_experts"),
                      ("S, mean of the diagonal", "s_diagonal_mean")):
        assert rows[name] == [f"{l[key]:.4f}" for l in layers], name
    counts = page.run("return document.getElementById('tables').csvRows()")
    margins = [row[3] for row in counts if row[0] == "base" and row[1] == 0 and row[2].startswith("margins")]
    assert margins == layers[0]["margin_histogram"]
    quiet(page)


def assert_shares(table, shares):
    # Scripts and Python round halves in different ways.
    for row, expected in zip(table, shares, strict=True):
        for text, share in zip(row[2:], expected, strict=True):  # after name and patches
            assert abs(float(text.removesuffix(" %")) - 100 * share) < 0.0501, (row, expected)


def test_classes(page):
    report, run = page.report, page.report.runs[0]
    page.run("change({image: 0, layer: 0, run: 0})")
    layer = run["audit"]["layers"][0]
    n, counts = layer["experts"], layer["class_expert"]
    shares = [[counts[c * n + e] / max(1, sum(counts[c * n:(c + 1) * n])) for e in range(n)]
              for c in range(len(counts) // n)]
    table = page.table("#class-table")
    assert [row[0] for row in table] == run["class_names"]
    assert_shares(table, shares)
    page.click(page.one("#class-table button[data-sort='2']"))
    order = sorted(range(len(shares)), key=lambda c: -shares[c][2])
    assert [row[0] for row in page.table("#class-table")] == [run["class_names"][c] for c in order]
    label = run["images"][3]["label"]
    page.click(page.one(f"#class-table button[data-cell='{label}-2']"))
    images = [int(node.get_attribute("data-image")) for node in page.all("#class-images button")]
    expected = [i for i, entry in enumerate(run["images"]) if entry["label"] == label]
    assert sorted(images) == expected
    sent = [report.first(run, 0, 0, i).count(2) for i in images]
    assert sent == sorted(sent, reverse=True)
    page.click(page.one("#class-images button"))
    assert page.one(f"#strip button[data-image='{images[0]}']").get_attribute("aria-pressed") == "true"
    part = layer["part_expert"]
    assert_shares(page.table("#part-table"),
                  [[part[p * n + e] / max(1, sum(part[p * n:(p + 1) * n])) for e in range(n)]
                   for p in range(3)])
    assert f"{layer['part_information']:.4f} nats" in page.text("#part-information")
    quiet(page)


def test_playground(page):
    report, run = page.report, page.report.runs[0]
    page.run("change({image: 1, layer: 1, level: 0, run: 0})")
    page.set("#play-token", 3)
    logits = [round(x, 6) for x in report.logits(run, 1, 1, 3)]
    gates = softmax(logits)
    rows = page.table("#play-table")
    assert [float(row[4]) for row in rows] == [float(f"{g:.4f}") for g in gates], rows
    best = sorted(range(len(gates)), key=lambda e: -gates[e])
    assert rows[best[0]][5] == "1 of 2" and rows[best[1]][5] == "2 of 2"
    # The program's own choice.
    assert best[0] == report.first(run, 1, 0, 1)[2]  # token 0 is the class token
    page.set("#play-table input[data-logit='2']", 9)
    gates = softmax([9 if e == 2 else x for e, x in enumerate(logits)])
    rows = page.table("#play-table")
    assert rows[2][5] == "1 of 2" and rows[2][4] == f"{gates[2]:.4f}", rows[2]
    # One slot an expert: every expert serves one token, all later requests are dropped.
    page.set("#play-capacity", 1)
    tokens = report.patches(run) + 1
    steps = page.text("#play-steps")
    asked = [int(row[8]) for row in page.table("#play-table")]
    assert sum(asked) == 2 * tokens
    dropped = sum(max(0, count - 1) for count in asked)
    assert f"{dropped} of {2 * tokens} choices find none" in steps, steps
    page.set("#play-k", 1)
    assert sum(int(row[8]) for row in page.table("#play-table")) == tokens
    page.set("#play-sigma", 1)
    noise = [normal(1, 3 * len(logits) + e) for e in range(len(logits))]
    shown = [float(row[2]) for row in page.table("#play-table")]
    assert max(abs(a - b) for a, b in zip(shown, noise)) < 1e-4, (shown, noise)
    page.click(page.one("#play-reset"))
    assert page.one("#play-table input[data-logit='2']").get_attribute("value") == f"{logits[2]:.3f}"
    quiet(page)


def active(page):
    return page.run("const a = document.activeElement; return [a.tagName.toLowerCase(), a.getAttribute("
                    "'data-cell') || a.getAttribute('data-sort') || a.getAttribute('data-patch') || a.id]")


def test_keyboard(page):
    page.run("change({image: 0, layer: 0, level: 0, run: 0})")
    # Whatever is redrawn, the focus stays.
    cell = page.one("#class-table [data-cell='1-1']")
    page.run("arguments[0].focus()", cell)
    cell.send_keys(Keys.ENTER)
    assert active(page) == ["button", "1-1"], active(page)
    page.one("#class-table [data-cell='1-1']").send_keys(Keys.ARROW_DOWN)
    assert active(page)[1] != "1-1" and active(page)[1].endswith("-1"), active(page)
    sort = page.one("#class-table [data-sort='3']")
    page.run("arguments[0].focus()", sort)
    sort.send_keys(Keys.ENTER)
    assert active(page) == ["button", "3"], active(page)
    stops = page.run("return document.querySelectorAll('#class-table td button[tabindex=\"0\"]').length")
    assert stops == 1, stops
    circle = page.one("#pairs circle[tabindex='0']")
    before = circle.get_attribute("data-patch")
    page.run("arguments[0].focus()", circle)
    circle.send_keys(Keys.ARROW_RIGHT)
    assert active(page)[0] == "circle" and active(page)[1] != before, active(page)
    # A chosen patch that another run does not have leaves its grid reachable.
    page.run("change({patch: 1000}); change({level: 1})")
    for grid in ("side-0", "side-1"):
        assert len(page.all(f"#{grid} g[tabindex='0']")) == 1
    page.run("state.patch = 0")
    logit = page.one("#play-table input[data-logit='1']")
    page.run("arguments[0].focus()", logit)
    logit.send_keys("7")
    logit.send_keys(Keys.TAB)
    assert page.run("return document.activeElement.getAttribute('data-logit')") == "2"
    quiet(page)


def test_provenance(page):
    run = page.report.runs[0]
    rows = dict(page.table("#provenance-table-0"))
    assert rows["finished steps"] == "30"
    assert rows["checksum of the weights' file (CRC-32)"] == run["audit"]["model_crc32"]
    assert rows["hash of the config"] == run["provenance"]["config_hash"]
    config = page.run("return document.querySelector('#provenance pre').textContent")
    with open(os.path.join(FOLDER, "base/config.toml"), encoding="utf-8") as file:
        assert config == file.read()
    quiet(page)


def test_downloads(page):
    for panel in page.all(".panel"):
        rows = page.run("return arguments[0].csvRows()", panel)
        assert len(rows) > 2, panel.get_attribute("id")
        picture = page.run("return panelPicture(arguments[0])", panel)
        head = base64.b64decode(picture.split(",")[1][:64])
        width, height = struct.unpack(">II", head[16:24])
        assert head.startswith(b"\x89PNG") and width > 400 and height > 200, (width, height)
    text = page.run("return csvText([['a,b', 'c\"d'], [1, null]])")
    assert text == '"a,b","c""d"\r\n1,\r\n', text
    quiet(page)


def test_dark(page):
    before = page.run("return getComputedStyle(document.body).backgroundColor")
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia",
                                 {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
    after = page.run("return getComputedStyle(document.body).backgroundColor")
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert before != after, (before, after)
    quiet(page)


def test_names_are_text(page):
    assert page.browser.title == "robustmoe: router report", page.browser.title
    names = [row[0] for row in page.table("#class-table")]
    assert sorted(names) == sorted([EVIL_CLASS, "plain & 'quoted'"]), names
    titles = [node.get_attribute("title") for node in page.all("#strip button")]
    assert any("<script>" in title for title in titles), titles
    assert page.all("#panels img[src='x'], #strip img[src='x']") == []
    page.click(page.one("#class-table td button"))
    assert page.browser.title == "robustmoe: router report"
    assert [node.get_attribute("id") for node in page.all(".panel")].count("sides") == 0
    quiet(page)


TESTS = [test_opens, test_noise_slider_and_layers, test_hover_and_keys, test_run_choice,
         test_noise_is_the_programs, test_pairs, test_s_matrix, test_load, test_tables, test_classes,
         test_playground, test_keyboard, test_provenance, test_downloads, test_dark]


def make_runs():
    data = "shapes:size=16,train=64,test=40"
    base, prc = os.path.join(FOLDER, "base"), os.path.join(FOLDER, "prc")
    # Stopped in the middle and resumed: an event to mark.
    program("train", "--recipe", "quick-vmoe", "--data", data, "--out", base, *settings([*SMALL, "checkpoint.every=10"]))
    for name in ("latest", "step-000000030", "step-000000020"):
        path = os.path.join(base, "checkpoints", name)
        if name != "step-000000020" and os.path.isdir(path):
            shutil.rmtree(path)
    program("train", "--resume", "--out", base)
    program("audit", "--checkpoint", base, "--data", data, "--json", base + "/audit.json")
    train(prc, data, PRC)
    program("report", "--run", base, "--run", prc, "--out", os.path.join(FOLDER, "two.html"), "--json",
            os.path.join(FOLDER, "two.json"), "--images", "12")
    folder = os.path.join(FOLDER, "pictures")
    write_folder(folder)
    train(os.path.join(FOLDER, "evil"), "image-folder:" + folder, ["model.image_size=16", *PRC])
    program("report", "--run", os.path.join(FOLDER, "evil"), "--out", os.path.join(FOLDER, "evil.html"),
            "--json", os.path.join(FOLDER, "evil.json"), "--images", "8")


def open_browser():
    options = Options()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--window-size=1280,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.binary_location = CHROMIUM
    browser = webdriver.Chrome(options=options, service=Service(DRIVER))
    browser.set_script_timeout(60)
    return browser


def main():
    passed = failed = 0
    make_runs()
    browser = open_browser()
    try:
        two = Page(browser, os.path.join(FOLDER, "two.html"), Report(os.path.join(FOLDER, "two.json")))
        tests = [(test, two) for test in TESTS]
        for test, page in [*tests, (test_names_are_text, None)]:
            if page is None:
                page = Page(browser, os.path.join(FOLDER, "evil.html"),
                            Report(os.path.join(FOLDER, "evil.json")))
            try:
                test(page)
                passed += 1
            except Exception:
                traceback.print_exc(file=sys.stdout)
                print(f"FAILED {test.__name__}")
                failed += 1
    finally:
        browser.quit()
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(re.sub(r"\n\n", "\n", __doc__))
    PROGRAM = os.path.abspath(sys.argv[1])
    if webdriver is None or CHROMIUM is None or DRIVER is None:
        print("no chromium, chromedriver or selenium here (tools/setup.sh --browser)")
        print("0 passed, 0 failed, 1 skipped")
        sys.exit(0)
    with tempfile.TemporaryDirectory() as FOLDER:
        sys.exit(main())
