"""A durable outbox in storage that is full, read-only, failing, or another's: a clear error, and
the messages go on from memory.
"""

from __future__ import annotations

import json
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from faults.flash_rig import FlashDevice, directory_in_memory
from securemqtt import Client
from securemqtt.errors import OutboxNotDurable, TimedOut
from securemqtt.messages import Delivery
from securemqtt.outbox.durable import DurableOutbox
from securemqtt_tools.broker import BrokerProcess
from securemqtt_tools.pki import Authority
from support.identities.bundles import write_bundle
from support.network.net import wait_until
from support.network.proxy import Proxy
from support.requirements import heeding_modes
from support.speed import seconds

PROGRAM = Path(__file__).with_name("disk_device.py")
# Publishes, and ends without a word to anyone.
UNDELIVERED = """
import sys
from securemqtt import Client
client = Client(sys.argv[1], outbox="durable")
print(sum(client.publish("~/number", f"{number} " + "x" * 100).stored > 0 for number in range(300)))
"""
RUN_S = seconds(60)


def run(
    bundle: Path,
    count: int,
    *prefix: str,
    before: Callable[[], None] | None = None,
    **options: object,
) -> subprocess.CompletedProcess[str]:
    """Run disk_device.py, behind the command `prefix`; `before` is called in its process first."""
    command = [*prefix, sys.executable, str(PROGRAM), str(bundle), json.dumps(options), str(count)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=RUN_S, check=False, preexec_fn=before
    )


def few_bytes() -> None:
    """Have no file grow beyond 20 kB, as on a disk that is full then."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def account(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return what the device printed."""
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def bundle(authority: Authority, tmp_path: Path) -> Path:
    """Return a device's bundle."""
    return write_bundle(tmp_path / "bundle", authority, "disk", port=1)


def test_a_full_disk_leaves_the_messages_in_memory(bundle: Path) -> None:
    found = account(run(bundle, 300, before=few_bytes))
    assert found["delivered"] == list(range(300))
    assert 100 < found["stored"] < 300
    assert found["stats"]["unstored"] == 300 - found["stored"]
    assert found["error"] == "OutboxNotDurable"
    assert "file system is full" in found["text"] and str(bundle / "outbox") in found["text"]


def test_what_a_full_disk_tore_is_passed_over_at_the_next_start(bundle: Path) -> None:
    command = [sys.executable, "-c", UNDELIVERED, str(bundle)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, timeout=RUN_S, check=True, preexec_fn=few_bytes
    )
    found = account(run(bundle, 0))
    assert found["delivered"] == list(range(int(done.stdout)))
    assert found["stats"]["journal_damaged"] == 1


@pytest.mark.parametrize("fsync", ["each", "interval"])
def test_a_directory_without_permission_leaves_the_messages_in_memory(
    bundle: Path, fsync: str
) -> None:
    outbox = bundle.parent / "outbox"
    outbox.mkdir(0o500)
    found = account(run(bundle, 20, *heeding_modes(), outbox_dir=str(outbox), outbox_fsync=fsync))
    assert found["delivered"] == list(range(20))
    assert (found["stored"], found["error"]) == (0, "OutboxNotDurable")
    assert "file system is read-only" in found["text"] and "outbox_dir" in found["text"]


def test_a_storage_that_works_again_is_used_again(bundle: Path) -> None:
    directory = bundle / "outbox"
    client = Client(str(bundle), outbox="durable")
    shutil.rmtree(directory)
    assert not client.publish("~/a", "b").stored
    assert isinstance(client.last_error, OutboxNotDurable)
    directory.mkdir()
    assert not client.publish("~/a", "b").stored  # not before a minute has passed
    outbox = client._connection.outbox
    assert isinstance(outbox, DurableOutbox)
    outbox.journal.retry_ms = 0  # a minute later
    assert client.publish("~/a", "b").stored
    assert (client.stats["unstored"], client.stats["journal_failures"]) == (2, 1)


def test_an_interval_takes_one_thread_at_a_time_and_none_after_the_end(bundle: Path) -> None:
    client = Client(str(bundle), outbox="durable", outbox_fsync="interval", outbox_interval_s=3600)
    before = _threads()
    for _ in range(20):
        client.publish("~/a", "b")
        client.flush(0)
    assert _threads() == before + 1
    client.start()
    client.disconnect(0)
    wait_until(lambda: _threads() == before, RUN_S, "the end of the threads")


def _threads() -> int:
    """Count this process's threads: `threading` does not know those that are not its own."""
    return len(list(Path("/proc/self/task").iterdir()))


def test_what_is_written_is_its_owners_alone(bundle: Path) -> None:
    code = (
        "import sys, securemqtt; securemqtt.Client(sys.argv[1], "
        "outbox='durable').publish('~/a', 'b')"
    )
    subprocess.run([sys.executable, "-c", code, str(bundle)], check=True, timeout=RUN_S)
    outbox = bundle / "outbox"
    assert stat.S_IMODE(outbox.stat().st_mode) == 0o700
    files = [path for path in outbox.iterdir() if path.stat().st_size]
    assert len(files) == 1
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in outbox.iterdir())


def test_two_processes_never_share_an_outbox(bundle: Path) -> None:
    code = (
        "import sys, securemqtt; c = securemqtt.Client(sys.argv[1], outbox='durable'); "
        "print(1, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(bundle)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline()
        second = run(bundle, 1)
        first.communicate(timeout=RUN_S)
    assert second.returncode == 1
    assert second.stderr.startswith("OutboxInUse: ") and "What to do" in second.stderr
    assert len(second.stderr.splitlines()) == 1
    assert account(run(bundle, 1))["delivered"] == [0]


def connecting_on_a_failed_storage(
    authority: Authority, directory: Path, port: int
) -> tuple[Client, Delivery]:
    """Return a client whose first attempt is under way, and what it has published since its storage
    failed.
    """
    client = Client(
        str(write_bundle(directory / "device", authority, "failing-storage", port=port)),
        outbox="durable",
    )
    client.start()
    wait_until(lambda: client.state == "connecting")
    shutil.rmtree(directory / "device" / "outbox")
    delivery = client.publish("~/number", b"1")
    assert isinstance(client.last_error, OutboxNotDurable)
    return client, delivery


def test_a_storage_that_fails_meanwhile_does_not_end_an_attempt_to_connect(
    authority: Authority, broker: BrokerProcess, tmp_path: Path
) -> None:
    with Proxy(broker.port) as proxy:
        proxy.down.hold()
        client, delivery = connecting_on_a_failed_storage(authority, tmp_path, proxy.port)
        with ThreadPoolExecutor(1) as other:
            # Only now: `connect` looks at once whether the attempt has ended, and then no more
            # until the state changes.
            attempt = other.submit(client.connect)
            try:
                wait_until(lambda: attempt.done() or client._connection.lock._waiting)
                assert not attempt.done()
            finally:
                proxy.down.release()
            attempt.result(RUN_S)
        assert delivery.wait(RUN_S)
        client.disconnect()


def test_an_attempt_that_fails_tells_its_own_reason_though_the_storage_failed_meanwhile(
    authority: Authority, broker: BrokerProcess, tmp_path: Path
) -> None:
    with Proxy(broker.port) as proxy:
        proxy.down.hold()
        client, _ = connecting_on_a_failed_storage(authority, tmp_path, proxy.port)
        with pytest.raises(TimedOut):
            client.connect(timeout_s=0.5)
        assert client.state == "closed"


def test_a_full_flash_leaves_the_messages_in_memory(authority: Authority) -> None:
    with (
        directory_in_memory() as scratch,
        FlashDevice(authority, scratch, blocks=10, outbox_messages=1000) as device,
    ):
        assert device.live(1, 300) == 0
    assert device.delivered == device.published
    assert device.stats["journal_failures"] > 0 and device.stats["unstored"] > 0
    assert set(device.errors) <= {"OutboxNotDurable"}


def test_a_flash_that_fails_leaves_the_messages_in_memory(authority: Authority) -> None:
    with directory_in_memory() as scratch, FlashDevice(authority, scratch) as device:
        device.chip.cut_after(300, half=False)
        device.live(2, 100)
        device.chip.cancel_cut()
        before = set(device.published) - set(device.delivered)
        device.chip.fail(True)
        assert device.live(3, 50) == 0
        assert device.stats["journal_failures"] > 0
        assert before <= set(device.delivered)
        assert set(device.published) == set(device.delivered)
