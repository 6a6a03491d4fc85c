"""The journal's files and directory on a disk: what another thread or another process does
meanwhile. On CPython only, which has such.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from securemqtt.outbox import disk
from securemqtt.outbox.disk import JournalFile
from support.interpreters.either import raised
from support.models.journals import Cached, Device, fail, filled, recover, texts
from support.speed import seconds

# How long the other thread has for what it does; longer only while it waits for what the first one
# holds.
STEP_S = 0.02
RUN_S = seconds(60)


class Interrupted:
    """The module `os`, with another thread that acts right before one of this thread's system calls
    for files: the `step`th.
    """

    def __init__(self, step: int, act: Callable[[], None]) -> None:
        self._left = step
        self._this = threading.get_ident()
        self._other = threading.Thread(target=act)
        self.happened = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        if name not in ("close", "dup", "fsync", "open"):
            return found

        def call(*arguments: Any) -> Any:
            if threading.get_ident() == self._this and not self.happened:
                self._left -= 1
                if self._left < 0:
                    self.happened = True
                    self._other.start()
                    self._other.join(STEP_S)
            return found(*arguments)

        return call

    def end(self) -> None:
        """Wait until the other thread is done."""
        if self.happened:
            self._other.join(RUN_S)
            assert not self._other.is_alive()


def test_a_file_that_another_thread_closes_during_its_sync_never_syncs_what_has_its_descriptor_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reused = 0
    step = 0
    happened = True
    while happened:
        file = JournalFile(str(tmp_path / str(step)))
        file.write(b"x")
        descriptor = file._descriptor
        others: list[int] = []

        def act(file: JournalFile = file, others: list[int] = others) -> None:
            file.close()
            others += os.pipe()

        interrupted = Interrupted(step, act)
        with monkeypatch.context() as patch:
            patch.setattr(disk, "os", interrupted)
            file.flush()  # an error with a pipe, and with what is closed
            interrupted.end()
        happened = interrupted.happened
        reused += descriptor in others
        for other in others:
            os.close(other)
        file.close()
        step += 1
    assert step > 3 and reused > 1


def test_a_directory_that_was_left_with_a_failure_and_used_by_another_is_not_written_any_more() -> (
    None
):
    device = filled("o", 3)
    fail(device, "close")
    device.outbox.release()
    other = Device("o", device.directory)
    assert other.drain() == texts(3)
    other.outbox.release()
    recover(device)
    raised("OutboxInUse", device.outbox.resume)
    Device("o", device.directory).outbox.release()  # it is left to others all the same


def test_leaving_goes_on_where_closing_the_claim_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    device = filled("o", 3)
    sharing = device.outbox.journal.storage.sharing
    release = sharing.release

    def fail() -> None:
        release()
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(sharing, "release", fail)
    device.outbox.release()
    assert Device("o", device.directory).drain() == texts(3)


def test_a_directory_that_cannot_be_read_at_the_end_is_not_left_to_others() -> None:
    device = filled("o", 3)
    device.outbox.sync()
    path = Path(device.directory)
    away = path.rename(path.with_name("away"))
    path.write_text("no directory")
    device.outbox.release()
    assert device.counter("journal_failures") == 1
    path.unlink()
    away.rename(path)
    raised("OutboxInUse", Device, "o", str(path))
    device.outbox.resume()
    recover(device)
    assert device.put("d").stored > 0
    assert device.restart().drain() == texts(3, "d")


class Names:
    """What a disk has beside its files; calls `before` each time when names are to be brought to
    it.
    """

    def __init__(self, disk: Any, before: Callable[[], None]) -> None:
        self._disk = disk
        self._before = before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)

    def sync_names(self) -> None:
        self._before()
        self._disk.sync_names()


def test_a_compacted_segment_has_its_name_before_those_go_that_it_stands_for() -> None:
    device = Device("o", outbox_journal_bytes=32768)
    left: list[list[str]] = []
    journal = device.outbox.journal
    device.rig.sharing = Names(
        journal.storage.sharing, lambda: left.append(device.restart().drain(length=4))
    )
    kept = []
    for number in range(600):
        assert device.put("value " + str(number) + "." * 80, "state", True)
        if number % 50 == 0:
            assert device.put(f"{number:04}")
            kept.append(f"{number:04}")
    assert left
    for texts_then in left:
        assert [text for text in texts_then if text != "valu"] == kept[: len(texts_then) - 1]
        assert "valu" in texts_then


def test_what_is_not_synced_at_once_is_when_the_interval_is_over() -> None:
    device = Device("o", outbox_fsync="interval", outbox_interval_s=0.01)
    device.put("a")
    synced = threading.Event()
    Cached(device).meanwhile = synced.set
    device.put("b")
    assert synced.wait(RUN_S)
    assert device.restart().drain() == ["a", "b"]
    device.outbox.release()
