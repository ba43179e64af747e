"""`chatlab grade` as it is called: options, exit codes, outputs, and what is never shown."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from xml.etree import ElementTree

import pytest

from chatlab import cli
from chatlab.grade.catalogue import catalogue
from chatlab.lab import process
from chatlab.lab.process import Process

SECRET = "the-secret-of-the-command's-own-tests-0123456789"
MAKE_TOKEN = [sys.executable, str(Path(__file__).with_name("make_token.py"))]
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    running = process(name="commanded", env={"CHATLAB_JWT_SECRET": SECRET})
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATLAB_JWT_SECRET", SECRET)
    monkeypatch.setenv("NO_COLOR", "1")


def called(*arguments: str) -> int:
    return cli.main(["grade", *arguments])


def only(*ids: str) -> list[str]:
    return [word for id in ids for word in ("--only", id)]


def test_nothing_broken_is_exit_code_0(server: Process, capsys: Captured) -> None:
    assert called(server.url, *only("admits", "join-acked")) == 0
    assert "✓ Lesson    2 kept, 0 broken, 0 not judged: kept in full" in capsys.readouterr().out


def test_something_broken_is_exit_code_1(
    server: Process, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATLAB_JWT_SECRET", "another secret than the server's")
    assert called(server.url, *only("admits", "join-acked")) == 1
    text = capsys.readouterr().out
    assert "✗ Lesson    0 kept, 1 broken, 1 not judged" in text
    assert '← 44{"message":"Invalid token"' in text


def test_an_address_needs_no_scheme(server: Process, capsys: Captured) -> None:
    assert called(server.url.removeprefix("http://"), *only("admits")) == 0
    capsys.readouterr()


def test_nobody_there_is_exit_code_2_and_a_sentence(capsys: Captured) -> None:
    assert called("http://127.0.0.1:1", *only("admits")) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "chatlab grade: nobody answers at http://127.0.0.1:1: Connection refused\n"


def test_a_web_server_that_is_no_chat_is_exit_code_2_and_a_sentence(capsys: Captured) -> None:
    class Plain(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    plain = HTTPServer(("127.0.0.1", 0), Plain)
    thread = Thread(target=plain.serve_forever)
    thread.start()
    try:
        assert called(f"http://127.0.0.1:{plain.server_port}", *only("admits")) == 2
    finally:
        plain.shutdown()
        plain.server_close()
        thread.join()
    assert "answers, but not as Socket.IO v5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "give the server's address"),
        (["http://x", "--only", "no-such"], "--only no-such: there is no such promise"),
        (["http://x", "--concern", "beauty"], "'beauty' is none of acknowledgements"),
        (["http://x", "--claim", "userId"], "'userId' is not like userId=sub"),
        (["http://x", "--claim", "userId=password"], "on the right stands one of sub"),
        (["http://x", "--timeout", "soon"], "'soon' is not between 0.1 and 600"),
        (["http://x", "--jobs", "0"], "'0' is not between 1 and 64"),
        (["http://x", "--control", "'open"], "is no command"),
        (["http://x", "--token-command", ""], "the command is empty"),
        (["ftp://x"], "is not an address like http://"),
        (["http://x", "--level", "heroic"], "invalid choice"),
        (
            ["http://x", "--only", "admits", "--concern", "errors"],
            "no promise is chosen by these options",
        ),
    ],
)
def test_a_mistake_in_the_options_is_exit_code_2_and_a_sentence(
    options: list[str], sentence: str, capsys: Captured
) -> None:
    with pytest.raises(SystemExit) as ended:
        called(*options)
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_without_a_secret_it_says_where_one_comes_from(
    server: Process, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHATLAB_JWT_SECRET")
    assert called(server.url) == 2
    assert "set CHATLAB_JWT_SECRET to the server's secret" in capsys.readouterr().err
    assert called(server.url, "--secret-env", "NOT_THERE") == 2
    assert "--secret-env NOT_THERE: the environment has no such" in capsys.readouterr().err


def test_the_secret_may_be_in_another_variable(
    server: Process, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHATLAB_JWT_SECRET")
    monkeypatch.setenv("OTHER", SECRET)
    assert called(server.url, "--secret-env", "OTHER", *only("admits")) == 0
    capsys.readouterr()


def test_listing_needs_neither_server_nor_secret(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHATLAB_JWT_SECRET")
    assert called("--list") == 0
    text = capsys.readouterr().out
    assert [each.id for each in catalogue() if each.id not in text] == []
    assert called("http://127.0.0.1:1", "--list", "--level", "lesson", "--concern", "errors") == 0
    text = capsys.readouterr().out
    assert "validated" in text
    assert "Contract" not in text
    assert "admits" not in text


def test_json_and_junit_go_to_files_beside_the_table(
    server: Process, capsys: Captured, tmp_path: Path
) -> None:
    files = tmp_path / "grade.json", tmp_path / "grade.xml"
    options = ["--json", str(files[0]), "--junit", str(files[1])]
    assert called(server.url, *only("admits"), *options) == 0
    assert "AUTHENTICATION" in capsys.readouterr().out
    assert json.loads(files[0].read_text())["promises"][0]["verdict"] == "kept"
    assert ElementTree.fromstring(files[1].read_text()).attrib["tests"] == "1"


def test_a_minus_sends_the_json_to_stdout_in_place_of_the_table(
    server: Process, capsys: Captured
) -> None:
    assert called(server.url, *only("admits"), "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["url"] == server.url


def test_a_file_that_cannot_be_written_is_a_sentence(
    server: Process, capsys: Captured, tmp_path: Path
) -> None:
    assert called(server.url, *only("admits"), "--json", str(tmp_path / "no" / "such")) == 2
    assert "cannot be written: No such file or directory" in capsys.readouterr().err


def test_a_token_command_makes_what_it_can_and_the_rest_is_not_judged(
    server: Process, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHATLAB_JWT_SECRET")
    monkeypatch.setenv("GRADED_SECRET", SECRET)
    judged = only("admits", "expired-refused", "forged-refused", "claims-required", "private-rooms")
    options = ["--token-command", shlex.join(MAKE_TOKEN), "--json", "-"]
    assert called(server.url, *judged, *options) == 0
    told = {each["id"]: each for each in json.loads(capsys.readouterr().out)["promises"]}
    assert {id for id, each in told.items() if each["verdict"] == "not judged"} == {
        "claims-required"
    }
    assert told["claims-required"]["said"].startswith("the token command makes no token of the")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["/no/such/program"], "the token command cannot be run"),
        ([sys.executable, "-c", "import sys; sys.exit('no key')"], "made no token: no key"),
        ([sys.executable, "-c", ""], "made no token: it printed nothing"),
    ],
)
def test_a_token_command_that_makes_none_is_exit_code_2_and_a_sentence(
    command: list[str], sentence: str, server: Process, capsys: Captured
) -> None:
    assert called(server.url, "--token-command", shlex.join(command), *only("admits")) == 2
    assert sentence in capsys.readouterr().err


def test_a_control_that_cannot_or_fails_leaves_promises_not_judged(
    server: Process, capsys: Captured
) -> None:
    for code, said in ((3, "--control cannot ban"), (1, "--control ban failed: oh no")):
        script = f"import sys; sys.stderr.write('oh no'); sys.exit({code})"
        control = shlex.join([sys.executable, "-c", script])
        assert called(server.url, "--control", control, *only("ban-refuses")) == 0
        assert said in capsys.readouterr().out


def test_foreign_tokens_fit_by_their_claims(capsys: Captured) -> None:
    options = ["--issuer", "elsewhere", "--audience", "its-own", "--algorithm", "HS384"]
    environment = {
        "CHATLAB_JWT_SECRET": SECRET,
        "CHATLAB_JWT_ISSUER": "elsewhere",
        "CHATLAB_JWT_AUDIENCE": "its-own",
        "CHATLAB_JWT_ALGORITHM": "HS384",
    }
    foreign = process(name="foreign", env=environment)
    try:
        assert called(foreign.url, *options, *only("admits", "algorithm-fixed")) == 0
        assert called(foreign.url, *only("admits")) == 1
    finally:
        foreign.stop()
    capsys.readouterr()


def test_neither_the_secret_nor_a_token_is_in_any_output(server: Process, tmp_path: Path) -> None:
    files = [tmp_path / "grade.json", tmp_path / "grade.xml"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "chatlab", "grade", server.url, "--evidence", "99"),
            *("--concern", "authentication", "--level", "contract"),
            *("--json", str(files[0]), "--junit", str(files[1])),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for text in (done.stdout, done.stderr, *(file.read_text() for file in files)):
        assert SECRET not in text
        assert "eyJ" not in text
    assert "<token>" in files[0].read_text()
