"""The join code: easy to read aloud, and not to be guessed."""

from __future__ import annotations

import re

from chatlab.stage.codes import Codes, network_of, new_code


def test_a_code_has_no_letters_that_look_alike() -> None:
    codes = {new_code() for _ in range(200)}
    assert len(codes) > 190
    assert all(re.fullmatch(r"[B-Y346789]{3}-[B-Y346789]{3}", code) for code in codes)
    assert not set("".join(codes)) & set("AEIOUL015SZ2N")


def test_eight_wrong_codes_a_minute_from_one_address_are_enough() -> None:
    now = [0.0]
    codes = Codes(lambda: now[0])
    for _ in range(8):
        assert codes.wait("192.0.2.1") == 0
        assert not codes.right("no", "192.0.2.1")
    assert codes.wait("192.0.2.1") == 60
    assert codes.wait("192.0.2.2") == 0
    now[0] = 60.5
    assert codes.wait("192.0.2.1") == 0


def test_many_addresses_together_are_held_up_too() -> None:
    codes = Codes(lambda: 0.0)
    for number in range(120):
        codes.right("no", f"192.0.{number}.1")
    assert codes.wait("198.51.100.7") == 60


def test_one_address_does_not_make_many_guests() -> None:
    codes = Codes(lambda: 0.0)
    for _ in range(12):
        assert codes.wait("192.0.2.1") == 0
        assert codes.right(codes.code.lower(), "192.0.2.1")
    assert codes.wait("192.0.2.1") == 60


def test_a_whole_ipv6_network_is_one_guesser() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1")
    assert network_of("2001:db8::1") != network_of("2001:db8:0:1::1")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1")
    assert network_of("fe80::1%eth0") == network_of("fe80::2")
    assert network_of("what?") == "?"
