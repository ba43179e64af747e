"""The script of the talk: for each concern what to say, what to click, and what is then seen.

Plain sentences to be read aloud. Every `see` was tried on this stage; a test clicks through all of
it. The page draws it, and does no more than the instructor clicks.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["SCRIPT"]

Note = dict[str, Any]


def _click(label: str, do: str, **more: Any) -> dict[str, Any]:
    return {"label": label, "do": do, **more}


def _by_hand(label: str) -> dict[str, Any]:
    return {"label": label}


def _note(
    name: str, title: str, say: list[str], click: list[dict[str, Any]], see: list[str]
) -> Note:
    return {"id": name, "title": title, "say": say, "click": click, "see": see}


_ACKNOWLEDGEMENTS: Final = [
    _note(
        "one-message",
        "One message and its answer",
        [
            "Alice is on server 1, Bob is on server 2. Between them are a balancer, two servers "
            "and one Valkey. Every packet that you see was seen on a wire. No timer draws one.",
            "An acknowledgement is the server's answer to one message. Here it means: stored.",
        ],
        [_by_hand("Type a message in window A")],
        [
            "It goes from window A to server 1, and from there to Valkey.",
            "Valkey stores it, gives it a number, and tells both servers.",
            "Server 2 delivers it to window B. Server 1 answers window A.",
            "The tick in window A changes when the answer is there, and when Bob's page has it.",
        ],
    ),
    _note(
        "lost-answer",
        "The answer gets lost",
        [
            "Now the wire of window A goes silent in one direction: what Alice sends arrives, what "
            "she should hear does not. Nothing is closed. A phone in a lift does this.",
            "Ask the room: was her message stored? Alice cannot know. Only the answer would tell.",
        ],
        [
            _click("No answers reach window A", "mute", window="a", direction="to_client"),
            _by_hand("Type a message in window A"),
        ],
        [
            "Window B shows the message. The answer dies on wire A.",
            "Window A goes on trying. After about four seconds it notices that it hears nothing.",
        ],
    ),
    _note(
        "retry",
        "Trying again, with the same key",
        [
            "Alice's page sends the message again when it is back. It does not send a second "
            "message: each try carries the same key, and the server knows the key already.",
        ],
        [_click("Heal wire A", "heal", window="a")],
        [
            "Window A comes back and sends once more. The answer has the number of the first try.",
            "Window B shows the message once. The checker says: nothing doubled.",
        ],
    ),
]

_AUTHENTICATION: Final = [
    _note(
        "forged",
        "A token that somebody else signed",
        [
            "Who Alice is stands in a signed token. The server checks the signature before it lets "
            "her in, and takes her name from the token, never from a message.",
        ],
        [_click("Alice comes with a forged token", "token", window="a", kind="forged")],
        [
            "Window A asks to come in and is refused: invalid_token.",
            "No packet of the chat reaches it. The page asks for another token and does not try "
            "this one again.",
        ],
    ),
    _note(
        "expired",
        "A token that has expired",
        [
            "The signature is good, and the time is over. The answer has a code of its own, so "
            "that a page can tell the two apart and fetch a new token."
        ],
        [_click("Alice comes with an expired token", "token", window="a", kind="expired")],
        ["Window A is refused: token_expired. The page says so, and asks to log in again."],
    ),
    _note(
        "expiring",
        "A token that expires during the talk",
        [
            "A connection may last for days. A check at the door alone is not enough.",
            "This token lasts twenty seconds. The server warns when half of it is over.",
        ],
        [_click("Alice comes with a token of 20 seconds", "token", window="a", kind="expiring")],
        [
            "After ten seconds window A shows how much time is left.",
            "After twenty seconds the server says token-expired and closes the connection.",
        ],
    ),
    _note(
        "ban",
        "Somebody has to go",
        [
            "A token cannot be taken back. So the servers ask a directory, too, and hear at once "
            "when it changes.",
        ],
        [
            _click("Alice has a good token again", "token", window="a", kind="good"),
            _click("Ban alice", "ban", user="alice"),
            _click("Unban alice", "unban", user="alice"),
        ],
        [
            "A ban closes every connection of Alice on every server within a second.",
            "Her page does not come back by itself. After the unban it is loaded anew.",
        ],
    ),
]

_ERRORS: Final = [
    _note(
        "frozen-valkey",
        "The storage stands still",
        [
            "Valkey is frozen: it runs, and answers nothing. This is worse than a crash, because "
            "nobody is told.",
            "Ask the room: how long should Alice wait?",
        ],
        [_click("Freeze Valkey", "valkey", how="freeze"), _by_hand("Type a message in window A")],
        [
            "Within two seconds server 1 answers: unavailable, and that trying again may help.",
            "The next tries are refused at once, because server 1 knows by now. Window A stays "
            "connected and waits a little longer each time.",
        ],
    ),
    _note(
        "thawed-valkey",
        "And goes on",
        [
            "Unavailable does not mean: not stored. The command lies in Valkey's buffer, and may "
            "still be carried out. Whoever sends again without a key now sends twice.",
        ],
        [_click("Thaw Valkey", "valkey", how="thaw")],
        [
            "The message is delivered, once. The next try of window A is answered with its number.",
            "The checker says: nothing lost, nothing doubled.",
        ],
    ),
]

_RATE_LIMITING: Final = [
    _note(
        "flood",
        "One user sends as fast as possible",
        [
            "Mallory opens four connections to server 1 and sends without a pause. Another user, "
            "the victim, is on the same server and says one thing five times a second.",
            "We look at one number: how long the victim waits for each answer.",
        ],
        [_click("Mallory floods server 1", "flood", on=True)],
        [
            "Twenty messages a second get through. The rest is refused: rate_limited.",
            "Soon the server reads from Mallory only as fast as the limit allows.",
            "The victim's wait hardly changes.",
        ],
    ),
    _note(
        "no-limits",
        "The same without limits",
        [
            "The servers start again with every limit raised out of reach. The code is the same.",
            "This is also what a server looks like whose author has never thought of it.",
        ],
        [
            _click("The limits are off", "limits", on=False),
            _click("Mallory floods server 1", "flood", on=True),
        ],
        [
            "Now thousands of messages a second are stored, all of them Mallory's.",
            "The victim waits many times as long for each answer.",
        ],
    ),
    _note(
        "limits-again",
        "And back",
        ["A limit is a promise to everybody else. It costs the one who stays below it nothing."],
        [
            _click("The flood is over", "flood", on=False),
            _click("The limits are on", "limits", on=True),
        ],
        ["The servers start again. Both windows are back within seconds."],
    ),
]

_SCALING: Final = [
    _note(
        "two-servers",
        "Two servers, one room",
        [
            "Alice and Bob have never been on the same server, and yet they talk. Servers do not "
            "speak with each other. Each speaks with Valkey.",
            "The number of a message comes from Valkey, so everybody sees the same order.",
        ],
        [_click("Four more people chat", "crowd", on=True)],
        [
            "Each message goes to Valkey once, and comes back to both servers.",
            "The checker compares what six people saw: no loss, no gap, one order.",
        ],
    ),
    _note(
        "kill-a-server",
        "A server dies",
        [
            "Server 1 is killed. It cannot say goodbye, and it cannot finish anything.",
            "Ask the room: what is lost?",
        ],
        [_click("Kill server 1", "server", number=1, how="kill")],
        [
            "Window A is back within a second or two, on server 2, and asks for what it missed.",
            "The checker goes on saying: nothing lost.",
        ],
    ),
    _note(
        "restart-a-server",
        "And comes back",
        [
            "The balancer finds it within a second. Who is connected stays where they are: there "
            "is no reason to move.",
        ],
        [
            _click("Start server 1", "server", number=1, how="restart"),
            _click("Load window A anew", "reload", window="a"),
        ],
        ["Window A is on server 1 again."],
    ),
]

_SURVIVAL: Final = [
    _note(
        "crash-of-the-log",
        "The storage dies",
        [
            "Four people chat. Valkey is killed in the middle of it, and starts again with what it "
            "had written to disk before each answer.",
        ],
        [
            _click("Four more people chat", "crowd", on=True),
            _click("Kill Valkey", "valkey", how="kill"),
            _click("Start Valkey", "valkey", how="restart"),
        ],
        [
            "While it is away everybody is told: unavailable. Nobody is told a lie.",
            "When it is back the tries succeed. The checker: what was acked is there.",
        ],
    ),
    _note(
        "stock",
        "The same chat without a log",
        [
            "Now the servers are python-socketio as it comes, with its Redis manager. The windows "
            "show the plain page that most chats begin with.",
            "As long as nothing breaks it looks the same. So we break the same part again.",
        ],
        [
            _click("Stock adapter", "adapter", to="stock"),
            _click("Kill Valkey", "valkey", how="kill"),
            _by_hand("Wait three seconds"),
            _click("Start Valkey", "valkey", how="restart"),
        ],
        [
            "Every message is answered with ok, also while Valkey is away.",
            "After some seconds the checker counts what was acked and never arrived. Open the "
            "evidence: who sent it, who was told ok, who never saw it.",
        ],
    ),
    _note(
        "back-to-the-log",
        "What made the difference",
        [
            "Not more servers, and not a better wire. A log that is written before the answer, a "
            "number on every message, and a key on every try.",
            "Everything that you saw is in lessons 01 to 06, and you can break it yourself.",
        ],
        [_click("chatlab's log", "adapter", to="chatlab"), _click("Reset", "reset")],
        ["Everything is as it was at the start."],
    ),
]

SCRIPT: Final[list[dict[str, Any]]] = [
    {"id": "acknowledgements", "title": "Acknowledgements", "notes": _ACKNOWLEDGEMENTS},
    {"id": "authentication", "title": "Authentication", "notes": _AUTHENTICATION},
    {"id": "errors", "title": "Errors", "notes": _ERRORS},
    {"id": "rate-limiting", "title": "Rate limiting", "notes": _RATE_LIMITING},
    {"id": "scaling", "title": "Scaling", "notes": _SCALING},
    {"id": "survival", "title": "Survival", "notes": _SURVIVAL},
]
"""By concern, in the order of the lessons."""
