"""Whoever wins a race between threads, the drawing of the run is the same."""

from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from chatlab.lab.recorder import Recorder
from chatlab.lab.timeline import timeline

fifty = settings(max_examples=50)


class Race:
    """A run as a partial order of entries; `record` makes one of the orders it may happen in."""

    def __init__(self):
        self.steps = []
        self.latest = {}

    def step(self, actor, role, kind, *after, **fields):
        """Add an entry that happens after the steps `after`; returns its number.

        One direction of one connection keeps its order at every actor.
        """
        self.steps.append((actor, role, kind, set(after), fields))
        number = len(self.steps) - 1
        if "to_server" in fields:
            lane = (actor, fields["conn"], fields["to_server"])
            if lane in self.latest:
                self.steps[number][3].add(self.latest[lane])
            self.latest[lane] = number
        return number

    def up(self, client, name, text, *after, number=None, wire=None):
        """A client's event; returns the steps of sending and of arriving."""
        return self._carry(
            client, True, after, wire, packet="event", name=name, data={"text": text}, id=number
        )

    def down(self, client, name, data, *after, number=None, wire=None):
        packet = "event" if name else "ack"
        return self._carry(
            client, False, after, wire, packet=packet, name=name, data=data, id=number
        )

    def _carry(self, client, to_server, after, wire, **fields):
        fields |= {"conn": client, "to_server": to_server}
        ends = [(client, "client"), ("server", "server")]
        source, target = ends if to_server else ends[::-1]
        sent = here = self.step(*source, "send", *after, **fields)
        if wire is not None:
            here = self.step("wire", "wire", wire, here, **fields)
        if wire == "drop":
            return sent, here
        return sent, self.step(*target, "receive", here, **fields)

    def record(self, choose):
        """Let it happen, `choose` picking among what may happen next."""
        recorders, done = {}, set()
        for actor, role, *_ in self.steps:
            recorders.setdefault(actor, Recorder(actor, role))
        while len(done) < len(self.steps):
            ready = [n for n, step in enumerate(self.steps) if n not in done and step[3] <= done]
            number = choose(ready)
            actor, _, kind, _, fields = self.steps[number]
            # What counts is the order; how long hypothesis takes to choose must not.
            with mock.patch("time.monotonic", return_value=0.0):
                recorders[actor].add(kind, **fields)
            done.add(number)
        return [recorders[name] for name in sorted(recorders)]


def drawing(race, choose):
    return repr(timeline(*race.record(choose)))


def always_the_same(race, data):
    usual = drawing(race, min)
    assert drawing(race, lambda ready: data.draw(st.sampled_from(ready))) == usual
    return usual


@fifty
@given(st.data())
def test_calls_one_after_the_other_while_a_receiver_lags(data):
    race = Race()
    last = ()
    for number in range(3):
        _, arrived = race.up("alice", "send-message", f"m{number}", *last, number=number)
        _, answered = race.down("alice", None, {"ok": True}, arrived, number=number)
        race.down("bob", "new-message", {"text": f"m{number}"}, arrived)
        race.down("carol", "new-message", {"text": f"m{number}"}, arrived)
        last = (answered,)
    assert always_the_same(race, data).splitlines()[1:4] == [
        'alice → server       send-message "m0"',
        "server → alice       ack ok: true",
        'server → bob, carol  new-message "m0"',
    ]


@fifty
@given(st.data())
def test_a_burst_of_calls(data):
    race = Race()
    sends, arrivals = [], []
    for number in range(3):
        # The client queues all of them before its loop runs again.
        sends.append(
            race.step(
                "alice",
                "client",
                "send",
                *sends,
                packet="event",
                name="send-message",
                data={"text": f"m{number}"},
                id=number,
                conn="alice",
                to_server=True,
            )
        )
    for number in range(3):
        arrivals.append(
            race.step(
                "server",
                "server",
                "receive",
                *sends,
                *arrivals,
                packet="event",
                name="send-message",
                data={"text": f"m{number}"},
                id=number,
                conn="alice",
                to_server=True,
            )
        )
        race.down("alice", None, {"ok": True}, arrivals[-1], number=number)
        race.down("bob", "new-message", {"text": f"m{number}"}, arrivals[-1])
    told = always_the_same(race, data)
    assert told.index('send-message "m2"') < told.index("ack ok: true")


@fifty
@given(st.data())
def test_two_clients_taking_turns(data):
    race = Race()
    last = ()
    for number, (one, other) in enumerate([("alice", "bob"), ("bob", "alice")] * 2):
        _, arrived = race.up(one, "send-message", f"m{number}", *last, number=number)
        _, answered = race.down(one, None, {"ok": True, "seq": number}, arrived, number=number)
        race.down(other, "new-message", {"text": f"m{number}", "user": one}, arrived)
        last = (answered,)
    always_the_same(race, data)


@fifty
@given(st.data())
def test_a_reader_that_answers_what_it_reads(data):
    race = Race()
    _, arrived = race.up("alice", "send-message", "hello", number=1)
    race.down("alice", None, {"ok": True}, arrived, number=1)
    _, read = race.down("bob", "new-message", {"text": "hello"}, arrived)
    _, marked = race.up("bob", "mark-read", "hello", read, number=1)
    race.down("bob", None, {"ok": True}, marked, number=1)
    always_the_same(race, data)


@fifty
@given(st.data())
def test_a_burst_into_a_wire_that_goes_silent(data):
    race = Race()
    sends, wire = [], []
    for number in range(4):
        sends.append(
            race.step(
                "alice",
                "client",
                "send",
                *sends,
                packet="event",
                name="send-message",
                data={"text": f"m{number}"},
                conn="alice",
                to_server=True,
            )
        )
    for number in range(4):
        if number == 2:
            wire.append(race.step("wire", "wire", "mute", *sends, *wire, text="silent"))
        kind = "pass" if number < 2 else "drop"
        packet = {
            "packet": "event",
            "name": "send-message",
            "data": {"text": f"m{number}"},
            "conn": "alice",
            "to_server": True,
        }
        wire.append(race.step("wire", "wire", kind, *sends, *wire, **packet))
        if kind == "pass":
            race.step("server", "server", "receive", wire[-1], **packet)
    told = always_the_same(race, data).splitlines()
    assert [line.split("  ")[0] for line in told[1:]] == [
        "alice → server",
        "alice → server",
        "wire",
        "alice → ✗ wire",
        "alice → ✗ wire",
    ]


@fifty
@given(st.data())
def test_both_ends_of_a_cut_connection(data):
    race = Race()
    sent, arrived = race.up("alice", "send-message", "m", wire="pass")
    cut = race.step("wire", "wire", "cut", sent, arrived, text="cut")
    ends = [
        race.step("alice", "client", "disconnected", cut, conn="alice"),
        race.step("server", "server", "disconnected", cut, conn="alice"),
    ]
    race.up("bob", "send-message", "and now?", ends[0])
    always_the_same(race, data)
