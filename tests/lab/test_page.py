"""`server.page()`: what is stored of it says enough and gives nothing away."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import socketio

from chatlab.lab import Cluster, Server, background, process
from chatlab.lab.page import ChatPage
from chatlab.server.app import create_app
from chatlab.settings import Settings
from outputs import Rules

RULES = Rules(Path(__file__).parents[1] / "nbval.cfg")


def serving(**settings: object) -> Server:
    return background(lambda: create_app(Settings(dev=True, **settings)), name="chat")


@pytest.fixture
def page():
    with serving(page=True) as server:
        yield server.page(user="alice")


def seen_without_scripts(html: str) -> str:
    return re.sub(r"<[^>]*>", " ", re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL))


def test_the_text_says_whose_page_it_is_and_how_to_see_it(page) -> None:
    assert repr(page) == (
        "✓ chat · its chat page, as alice in general\n"
        "  Shown here while the server runs: run this cell in JupyterLab."
    )


def test_a_reader_that_drops_scripts_and_frames_shows_the_same_words(page) -> None:
    words = seen_without_scripts(page._repr_html_()).replace(" ,", ",")
    assert words.split() == repr(page).split()


def test_two_runs_store_the_same_bytes_although_their_ports_differ() -> None:
    stored = []
    for _ in range(2):
        with serving(page=True) as server:
            shown = server.page(user="alice", room="general")
            assert str(server.port) in shown.address
            stored.append(RULES.apply([shown._repr_html_(), repr(shown)]))
            assert str(server.port) not in str(stored[-1])
    assert stored[0] == stored[1]


def test_no_token_and_no_secret_is_in_what_is_stored(page) -> None:
    assert "token" not in page._repr_html_()
    assert "eyJ" not in page._repr_html_()


def test_names_reach_the_address_and_the_html_as_they_are_and_as_nothing_else() -> None:
    shown = ChatPage("a<b", "http://127.0.0.1:1/", "A & O", 'r"oom#x', 300)
    assert shown.address == "http://127.0.0.1:1/#user=A+%26+O&room=r%22oom%23x"
    html = shown._repr_html_()
    assert "a<b" not in html
    assert "A &amp; O" in html
    assert 'r"oom' not in html


def test_a_process_with_the_page_shows_it_and_stopped_it_does_not() -> None:
    with process("--page", name="chat") as server:
        assert server.page(user="bob", room="kitchen").address == (
            f"{server.url}/#user=bob&room=kitchen"
        )
    with pytest.raises(RuntimeError, match=r"chat does not run \(stopped\): restart it"):
        server.page(user="bob")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (serving, r"chat does not serve the chat page: start it with create_app\(Settings\(dev="),
        (lambda: process(name="chat"), r'chat does not .*: start it with process\("--page"\)'),
        (
            lambda: background(socketio.AsyncServer(async_mode="aiohttp"), name="chat"),
            "chat is not chatlab's server: it has no chat page",
        ),
    ],
    ids=["background", "process", "python-socketio"],
)
def test_a_server_without_the_page_says_how_to_start_one_with_it(make, sentence) -> None:
    with make() as server, pytest.raises(RuntimeError, match=sentence):
        server.page(user="alice")


def test_without_dev_there_is_no_login_to_show_and_the_sentence_names_it() -> None:
    def production() -> object:
        return create_app(Settings(page=True, jwt_secret="x" * 32, storage="memory://"))

    with background(production) as server, pytest.raises(RuntimeError, match="dev=True, page=True"):
        server.page(user="alice")


def test_the_page_of_a_cluster_is_at_the_address_of_all_its_servers() -> None:
    with Cluster(1, valkey=False, arguments=["--page"]) as cluster:
        assert cluster.page(user="alice").address.startswith(f"{cluster.url}/#user=alice")
        cluster.kill(0)
        with pytest.raises(RuntimeError, match="cluster has no server that runs"):
            cluster.page(user="alice")


def test_a_cluster_of_stock_servers_or_without_the_page_says_so() -> None:
    with Cluster(1, valkey=False, stock="alone") as stock:
        with pytest.raises(RuntimeError, match="runs stock servers, which have no chat page"):
            stock.page(user="alice")
    with Cluster(1, valkey=False) as cluster:
        with pytest.raises(RuntimeError, match=r'Cluster\(arguments=\["--page"\]\)'):
            cluster.page(user="alice")


@pytest.mark.parametrize(
    "wrong", [{"user": " "}, {"user": "a", "room": ""}, {"user": "a", "height": 20}]
)
def test_nobody_no_room_and_a_height_for_ants_are_refused(wrong) -> None:
    with serving(page=True) as server, pytest.raises(ValueError):
        server.page(**wrong)
