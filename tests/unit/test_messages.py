"""What filters match, what payloads become, what a message that came in gives."""

from securemqtt.inbox import matches
from securemqtt.messages import Message, encode
from support.interpreters.either import raised

# Filter, topics that fall under it, topics that do not (MQTT 3.1.1, section 4.7).
_MATCHES = (
    ("a/b", ("a/b",), ("a", "a/b/", "a/b/c", "A/b", "/a/b")),
    ("#", ("a", "a/b", "/", "/a"), ("$SYS", "$SYS/x")),
    ("+", ("a",), ("a/", "/a", "a/b", "$SYS")),
    ("+/+", ("a/b", "/a", "a/", "/"), ("a", "a/b/c", "$SYS/x")),
    ("/+", ("/a", "/"), ("a", "/a/b")),
    ("a/#", ("a", "a/", "a/b", "a/b/c"), ("ab", "b/a", "/a")),
    ("a/+/c", ("a/b/c", "a//c"), ("a/c", "a/b/c/d", "a/b/b/c")),
    ("+/b/#", ("a/b", "a/b/c", "/b"), ("b", "a/c", "$SYS/b")),
    ("$SYS/#", ("$SYS/x", "$SYS"), ("SYS/x", "$sys/x")),
    ("$SYS/+", ("$SYS/x",), ("$SYS", "$SYS/x/y")),
)


def test_a_filter_matches_by_levels() -> None:
    for topic_filter, under, beside in _MATCHES:
        for topic in under:
            assert matches(topic_filter, topic), (topic_filter, topic)
        for topic in beside:
            assert not matches(topic_filter, topic), (topic_filter, topic)


def test_bytes_and_text_go_out_as_they_are() -> None:
    assert encode(b"\0\xff") == b"\0\xff"
    assert encode(bytearray(b"ab")) == b"ab"
    assert encode(memoryview(b"abc")[1:]) == b"bc"
    assert encode("é") == b"\xc3\xa9"
    assert encode("") == b""


def test_the_rest_goes_out_as_json() -> None:
    assert encode({"celsius": 21.5}) == b'{"celsius": 21.5}'
    assert encode([1, None, True, False, "a"]) == b'[1, null, true, false, "a"]'
    assert encode((1, (2,), [])) == b"[1, [2], []]"
    assert encode(None) == b"null"
    assert encode(7) == b"7"
    for value in ({"a": {"b": [1.5, {}]}}, '"\\\n\t\x01é😀', [-1, 1 << 40], {"x": "\x7f"}):
        assert _received(encode([value])).json() == [value]


def test_what_json_cannot_say_is_refused_alike_on_both_interpreters() -> None:
    for value in (
        {1, 2},
        object(),
        [object()],
        {"a": b"x"},
        1 + 2j,
        {"a": {1}},
        {(1, 2): 3},
        {b"a": 1},
        encode,
        Message,
    ):
        raised("InvalidPayload", encode, value)
    for number in ("nan", "inf", "-inf"):
        raised("InvalidPayload", encode, {"a": [float(number)]})


def test_half_a_surrogate_pair_is_no_payload_on_either_interpreter() -> None:
    for half in (chr(0xD800), "a" + chr(0xDFFF), "\ud7ff" + chr(0xDBFF) + "z"):
        for value in (half, [half], {"a": half}, {half: 1}, ({"a": [half]},)):
            error = raised("InvalidPayload", encode, value)
            assert "surrogate" in str(error), str(error)
    for payload in (b"\xed\xa0\x80", b"a\xed\xbf\xbf"):
        raised("ValueError", _received(payload).text)
        raised("ValueError", _received(b'"' + payload + b'"').json)
    raised("ValueError", _received(b'"\xff"').json)
    for whole in ("\ud7ff", "한국", "\ue000", "😀"):
        assert _received(encode(whole)).text() == whole
        assert _received(encode([whole])).json() == [whole]


def test_what_is_nested_too_deeply_is_no_payload() -> None:
    value = []
    for _ in range(20000):
        value = [value]
    raised("InvalidPayload", encode, value)
    value = {}
    value["a"] = value
    raised("InvalidPayload", encode, value)


def test_a_message_gives_its_payload_as_bytes_text_and_json() -> None:
    assert _received(b'{"a": [1, "\xc3\xa9"]}').json() == {"a": [1, "é"]}
    assert _received(b"\xc3\xa9").text() == "é"
    assert _received(b"").text() == ""
    raised("ValueError", _received(b"\xff").text)
    for payload in (b"", b"{", b"\xff", b"{} x"):
        raised("ValueError", _received(payload).json)


def test_a_payload_that_is_cut_off_is_no_json() -> None:
    whole = b' {"a": [1, {"b": [2, "]}"]}], "c": "}"} '
    assert _received(whole).json() == {"a": [1, {"b": [2, "]}"]}], "c": "}"}
    for size in range(len(whole) - 1):
        raised("ValueError", _received(whole[:size]).json)


def _received(payload: bytes) -> Message:
    return Message("a", payload, 0, False, False, 0, 0)


def test_json_is_read_however_deeply_it_is_nested_or_is_none() -> None:
    """MicroPython's reader needs no stack for that."""
    try:
        value = Message("t", b"[" * 5000 + b"]" * 5000).json()
    except ValueError as error:
        assert "nested too deeply" in str(error)
    else:
        assert isinstance(value, list)
