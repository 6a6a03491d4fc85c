"""Board profiles: those that come with the tools are sound, and a faulty one is refused with a
reason.
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from securemqtt_tools.cli import FatalError
from securemqtt_tools.profiles import load_all, load_profile, profile_names, profiles_of
from securemqtt_tools.resources import boards_directory, firmware_directory


def test_the_promised_boards_have_a_profile():
    assert profile_names() == [
        "esp32",
        "esp32_c3",
        "esp32_s3",
        "pico_2_w",
        "pico_w",
        "raspberry_pi",
        "simulated",
    ]
    for profile in load_all():
        assert profile.name
        assert profile.is_board == (profile.key != "raspberry_pi")


def test_a_profile_says_what_is_known_of_the_board():
    pico = load_profile("pico_w")
    assert pico.filesystem_bytes == 848 * 1024
    assert pico.clock_start == datetime(2021, 1, 1, tzinfo=timezone.utc)
    assert (pico.epoch_year, pico.umqtt_frozen, pico.certificate_format) == (1970, False, "der")
    assert (load_profile("esp32").epoch_year, load_profile("esp32").umqtt_frozen) == (2000, True)
    assert load_profile("raspberry_pi").certificate_format == "pem"


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ("Raspberry Pi Pico W with RP2040", ["pico_w"]),
        ("Raspberry Pi Pico 2 W with RP2350", ["pico_2_w"]),
        ("Raspberry Pi Pico with RP2040", []),
        ("Generic ESP32 module with ESP32", ["esp32"]),
        ("LILYGO TTGO LoRa32 with ESP32", ["esp32"]),
        ("Generic ESP32S3 module with ESP32-S3", ["esp32_s3"]),
        ("Generic ESP32S3 module with Octal-SPIRAM with ESP32S3", ["esp32_s3"]),
        ("Seeed XIAO ESP32C3 with ESP32-C3", ["esp32_c3"]),
        ("linux [GCC 14.2.1] version", []),
    ],
)
def test_a_board_is_known_by_what_it_calls_itself(machine: str, expected: list[str]):
    assert [profile.key for profile in profiles_of(machine)] == expected


def test_each_board_profile_matches_the_name_it_gives_first():
    for profile in load_all():
        if profile.is_board:
            assert profiles_of(profile.machine[0]) == [profile]


def test_an_unknown_profile_names_the_known_ones():
    with pytest.raises(FatalError, match=r"no board profile 'pico_x'.*pico_2_w, pico_w"):
        load_profile("pico_x")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('family = "rp2"', 'family = "rp3"', "'family' must be one of rp2, esp32"),
        ('arch = "armv6m"', 'arch = "armv6m"\nspeed = 1', "unknown key 'mpy.speed'; known here: "),
        ("epoch_year = 1970", "", "'clock.epoch_year' is missing"),
        (
            "typical_bytes = 163840",
            'typical_bytes = "160k"',
            "'heap.typical_bytes' must be a whole number",
        ),
        (
            "typical_bytes = 163840",
            "typical_bytes = true",
            "'heap.typical_bytes' must be a whole number",
        ),
        (
            "filesystem_bytes = 868352",
            "filesystem_bytes = 868353",
            "must be a multiple of 'flash.block_bytes'",
        ),
        (
            "program_bytes = 256",
            "program_bytes = 8192",
            "must be a multiple of 'flash.program_bytes'",
        ),
        ("filesystem_bytes = 868352", "filesystem_bytes = 0", "must be above 0"),
        ("epoch_year = 1970", "epoch_year = 1980", "'clock.epoch_year' must be one of 1970, 2000"),
        ('"Raspberry Pi Pico W with RP2040"', '"*RP2040"', "'machine' must begin with the name"),
        ("[usb]", "[usb", "not valid TOML"),
    ],
)
def test_a_faulty_profile_is_refused(tmp_path: Path, old: str, new: str, complaint: str):
    text = (boards_directory() / "pico_w.toml").read_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(FatalError) as raised:
        load_profile(str(path))
    assert complaint in str(raised.value)
    assert str(path) in str(raised.value)


def test_the_data_that_comes_with_the_tools_is_found():
    assert (boards_directory() / "simulated.toml").is_file()
    assert (firmware_directory() / "main.py").is_file()
