"""The picture stands alone, says what the text says, and can be read in light and dark."""

import base64
import math
import re
import time
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from chatlab.lab.timeline import timeline
from chatlab.lab.timeline_style import STYLE, shortened, text_width
from tests.lab.scene import Scene

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def drawing():
    scene = Scene("alice", "bob", wired=("alice",))
    scene.up("alice", "send-message", {"text": 'a < b & "c"'}, id=1)
    scene.ack("alice", 1, {"ok": False, "error": "Too many", "code": "rate_limited"})
    scene.down("bob", "new-message", {"text": 'a < b & "c"'})
    scene.mute()
    scene.up("alice", "send-message", {"text": "gone"}, id=2)
    scene.timeout("alice", "send-message", 2)
    scene.server.add("note", conn="alice", text="a note")
    scene.heal()
    scene.wire.add("cut", text="cut")
    scene.alice.add("disconnected", conn="alice")
    return timeline(*scene.actors, title="Lost & found")


@pytest.fixture
def late(monkeypatch):
    """Alice's message is overtaken by three of Bob's; what the server then tells is late too."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    scene = Scene("alice", "bob", "carol")
    first = {"conn": "alice", "packet": "event", "name": "send-message", "data": {"text": "1st"}}
    scene.alice.add("send", **first, to_server=True, id=1)
    now[0] = 0.5
    scene.timeout("alice", "send-message", 1)
    for number in (2, 3, 4):
        scene.up("bob", "send-message", {"text": f"quick, number {number}"}, id=number)
    now[0] = 0.6
    scene.server.add("receive", **first, to_server=True, id=1)
    told = {"packet": "event", "name": "new-message", "data": {"text": "told"}, "to_server": False}
    for name in ("bob", "carol"):
        scene.server.add("send", conn=name, **told)
    now[0] = 0.9
    scene.up("alice", "typing")
    now[0] = 1.2
    for name in ("bob", "carol"):
        scene.clients[name].add("receive", conn=name, **told)
    return timeline(*scene.actors)


def numbers(path):
    found = [float(n) for n in re.findall(r"-?[\d.]+", path.get("d"))]
    return list(zip(found[::2], found[1::2], strict=True))


def slanting(svg):
    """The slanting lines, as two points each, and the heads whose tips lie lower than a source."""
    paths = [p for p in ET.fromstring(svg).iter(f"{SVG}path") if p.get("class")]
    lines = [numbers(p) for p in paths if p.get("class").startswith("line ")]
    lines = [line for line in lines if line[0][1] < line[1][1]]
    heads = [numbers(p) for p in paths if p.get("class").startswith("tip ")]
    ends = [next(h for h in heads if math.dist(h[0], line[1]) < 9) for line in lines]
    return lines, ends


def words(svg):
    return " ".join(" ".join(t.itertext()) for t in ET.fromstring(svg).iter(f"{SVG}text"))


def test_it_is_well_formed_and_every_row_of_the_text_is_in_it(drawing):
    shown = re.sub(r"\s+", " ", words(drawing.svg()))
    for row in drawing.rows:
        assert row.name.removeprefix("✗ ") in shown
        assert row.words in shown or row.words[:12] in shown
    for lane in drawing.lanes:
        assert lane.name in shown


def test_a_screen_reader_gets_the_text_form(drawing):
    root = ET.fromstring(drawing.svg())
    assert root.get("role") == "img"
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert title.text == "Lost & found"
    assert description.text == repr(drawing)


def test_lost_arrows_end_in_a_cross_and_the_silent_wire_is_hatched(drawing):
    svg = drawing.svg()
    assert svg.count('class="sign bad"') == 2  # the swallowed message, the time-out
    assert svg.count('class="wall"') == 1
    assert svg.count('class="gap"') == 1


def test_the_head_of_a_late_arrow_points_where_its_line_goes(late):
    lines, heads = slanting(late.svg())
    assert len(lines) == 3  # to the server, to bob, to carol
    for (source, _), (tip, one, other) in zip(lines, heads, strict=True):
        middle = ((one[0] + other[0]) / 2, (one[1] + other[1]) / 2)
        assert math.dist(source, middle) + math.dist(middle, tip) == pytest.approx(
            math.dist(source, tip), abs=0.1
        )
        assert math.dist(tip, one) == pytest.approx(math.dist(tip, other), abs=0.2)
        assert math.dist(one, other) == pytest.approx(9, abs=0.2)


def test_words_that_a_late_arrow_crosses_stand_on_the_pages_colour(late):
    parts = list(ET.fromstring(late.svg()))
    grounds = [n for n, part in enumerate(parts) if part.get("class") == "gap"]
    assert grounds
    last_line = max(n for n in range(grounds[0]) if "line " in (parts[n].get("class") or ""))
    assert last_line < grounds[0]
    for n in grounds:
        ground, text = parts[n], parts[n + 1]
        assert text.tag == f"{SVG}text"
        left, top = float(ground.get("x")), float(ground.get("y"))
        assert top < float(text.get("y")) < top + float(ground.get("height"))
        assert left <= float(text.get("x")) <= left + float(ground.get("width"))
        assert "halo" in text.get("class")


def test_where_a_late_packet_arrives_its_text_is_named_and_fits_in(late):
    root = ET.fromstring(late.svg())
    said = [t for t in root.iter(f"{SVG}text") if (t.text or "").startswith("late")]
    assert sorted(t.text for t in said) == ['late: "1st"', 'late: "told"', 'late: "told"']
    assert '"1st" [1: arrives]' in repr(late)
    assert '"told" [2: arrives]' in repr(late)
    for text in said:
        x, width = float(text.get("x")), text_width(text.text)
        left = x - width if text.get("text-anchor") == "end" else x
        assert left >= 0
        assert left + width <= float(root.get("width"))


def test_it_is_the_same_every_time_and_its_ids_differ_from_another_drawings(drawing):
    assert drawing.svg() == drawing.svg()
    other = timeline(*Scene("alice").actors)
    ids = {re.search(r'id="(tl-\w+)"', d.svg()).group(1) for d in (drawing, other)}
    assert len(ids) == 2


def test_it_needs_nothing_from_outside(drawing):
    svg = drawing.svg()
    assert "<script" not in svg
    assert "@import" not in svg
    assert set(re.findall(r"url\(#([\w-]+)\)", svg)) <= set(re.findall(r'id="([\w-]+)"', svg))
    assert re.findall(r"https?://[^\s\"']+", svg) == ["http://www.w3.org/2000/svg"]


def test_in_a_notebook_it_is_an_image_with_the_text_as_its_alternative(drawing):
    class Images(HTMLParser):
        found = None

        def handle_starttag(self, tag, attrs):
            if tag == "img":
                self.found = dict(attrs)

    bundle = drawing._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    images = Images()
    images.feed(bundle["text/html"])
    assert images.found["alt"] == bundle["text/plain"] == repr(drawing)
    head, _, body = images.found["src"].partition(",")
    assert head == "data:image/svg+xml;base64"
    assert base64.b64decode(body).decode() == drawing.svg()


def test_it_can_be_saved(drawing, tmp_path):
    path = drawing.save(tmp_path / "scene.svg")
    assert path.read_text(encoding="utf-8") == drawing.svg()


@pytest.mark.parametrize("lanes", range(1, 8))
def test_it_fits_the_notebooks_width(lanes):
    scene = Scene(*(f"client-{n}" for n in range(lanes)))
    for name in scene.clients:
        scene.up(name, "send-message", {"text": "x" * 500})
    root = ET.fromstring(timeline(*scene.actors).svg())
    width = int(root.get("width"))
    assert width <= 1040 if lanes > 5 else width <= 900
    for text in root.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x")) <= width


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_every_text_has_enough_contrast(theme):
    rules = STYLE.split("@media (prefers-color-scheme:dark)")[theme]
    page = re.search(r"\.page\{fill:(#\w{6})", rules).group(1)
    head = re.search(r"\.head\{fill:(#\w{6})", rules).group(1)
    note = re.search(r"rect\.note\{fill:(#\w{6})", rules).group(1)
    ink = re.search(r"#root text\{[^}]*fill:(#\w{6})", rules).group(1)
    inks = set(re.findall(r"text\.\w+[^{]*\{fill:(#\w{6})", rules)) | {ink}
    assert len(inks) >= 4
    pairs = [(i, page) for i in inks] + [(ink, head), (ink, note)]
    for one, other in pairs:
        light, dark = sorted((luminance(one), luminance(other)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (one, other)


def test_long_words_are_cut_to_the_room_there_is():
    assert shortened("short", 200) == "short"
    cut = shortened("a rather long sentence that does not fit", 100)
    assert cut.endswith("…")
    assert text_width(cut) <= 100
