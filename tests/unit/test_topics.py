"""Topic names and filters, by the letter of MQTT 3.1.1, section 4.7."""

from securemqtt.protocol.topics import expand, problem, valid_elsewhere, valid_id


def test_an_id_is_1_to_64_of_the_characters_that_cannot_leave_a_topic() -> None:
    for good in ("a", "Z", "0", "_", "a-", "greenhouse-1", "x" * 64):
        assert valid_id(good), good
    for bad in (
        "",
        "-",
        "-greenhouse",
        "x" * 65,
        "a/b",
        "+",
        "#",
        "a b",
        "é",
        "a\0",
        "a\n",
        ".",
        "$SYS",
        "\udcff",
        None,
        7,
        b"a",
    ):
        assert not valid_id(bad), bad


def test_an_id_at_anothers_broker_is_one_level_of_a_topic() -> None:
    for good in ("a", "-", "-a", "sensor.1:2", "a b", "é@x=y", "$SYS", "urn:dev:1", "x" * 65535):
        assert valid_elsewhere(good), good
    for bad in ("", "a/b", "/", "+", "a#", "a\0", "a\n", "\x7f", chr(0xD800), "x" * 65536):
        assert not valid_elsewhere(bad), bad
    for bad in (None, 7, b"a", ["a"]):
        assert not valid_elsewhere(bad), bad


def test_a_tilde_stands_for_the_devices_own_prefix_at_the_start_only() -> None:
    for prefix in ("devices/pi", "zigbee/hall", "$aws/things/pi", "p"):
        assert expand("~/led", prefix) == prefix + "/led"
        assert expand("~", prefix) == prefix
        assert expand("~led", prefix) == "~led"
        assert expand("a/~/led", prefix) == "a/~/led"
        assert expand("/~", prefix) == "/~"
        assert expand("$share/g/~/led", prefix) == "$share/g/" + prefix + "/led"
        assert expand("$share/~/led", prefix) == "$share/~/led"


def test_a_name_may_be_any_text_without_wildcards_and_nul() -> None:
    for good in ("a", "/", "//", "a b", "é/😀", "$SYS/x", "x" * 65535):
        assert problem(good, False) is None, good
        assert problem(good, True) is None, good
    for bad in ("", "+", "#", "a/+", "a/#", "a+", "a\0b", "x" * 65536, "é" * 32768, None, 5, b"a"):
        assert problem(bad, False), bad


def test_a_wildcard_in_a_filter_takes_a_whole_level() -> None:
    for good in ("+", "#", "/+", "+/", "a/+/b", "a/#", "+/+/#", "+/tennis/#", "a//+"):
        assert problem(good, True) is None, good
    for bad in ("a+", "+a", "a/b+/c", "a#", "#/a", "a/#/b", "##", "++", "a/+#", "\0", ""):
        assert problem(bad, True), bad


def test_a_shared_subscription_has_a_group_and_a_filter() -> None:
    for good in ("$share/g/a", "$share/g/#", "$share/g//", "$shared", "$shared/a"):
        assert problem(good, True) is None, good
    for bad in ("$share", "$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a"):
        assert problem(bad, True), bad


def test_what_utf_8_cannot_say_is_no_topic() -> None:
    for lone in (0xD800, 0xDBFF, 0xDC80, 0xDFFF):
        assert problem("a/" + chr(lone), False), hex(lone)
        assert problem("a/" + chr(lone) + "/#", True), hex(lone)
    for near in (0xD7FF, 0xE000, 0x10FFFD):
        assert problem("a/" + chr(near), False) is None, hex(near)


def test_a_control_character_is_in_no_topic() -> None:
    for code in (1, 10, 27, 31, 127, 128, 159):
        assert problem("a/" + chr(code), False), hex(code)
        assert problem(chr(code) + "/#", True), hex(code)
    for near in (32, 126, 160, 0xBF, 0xC0):
        assert problem("a/" + chr(near), False) is None, hex(near)


def test_a_noncharacter_is_in_no_topic() -> None:
    for code in (0xFDD0, 0xFDEF, 0xFFFE, 0xFFFF, 0x1FFFE, 0x10FFFF):
        assert problem("a/" + chr(code), False), hex(code)
        assert problem(chr(code) + "/#", True), hex(code)
    for near in (0xFDCF, 0xFDF0, 0xFFFD, 0x10000, 0x1FFFD, 0x10FFFD):
        assert problem("a/" + chr(near), False) is None, hex(near)
