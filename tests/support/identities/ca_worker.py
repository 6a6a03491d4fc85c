"""Certificate authority at work in a process of its own, to be killed, crowded or starved of disk
by tests.

    python ca_worker.py MODE DIRECTORY [ARGUMENT…]

DIRECTORY holds an authority without a passphrase.

Each line on standard output is a thing handed out (`device SERIAL`, `crl NUMBER`) or what prevented
it (`error TEXT`).
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

from cryptography import x509

from securemqtt_tools.cli import FatalError, main
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.deliver import deliver


def say(line: str) -> None:
    """Hand out a line at once, in one write."""
    os.write(1, f"{line}\n".encode())


def issue(authority: Authority, device_id: str) -> bool:
    """Issue a device's certificate, write its files, and say so; or say what kept it from being
    done.
    """
    try:
        issued = authority.issue_device(device_id)
        deliver(authority, issued, authority.directory / "issued" / device_id)
    except FatalError as error:
        say(f"error {error}")
        return False
    say(f"device {issued.serial}")
    return True


def sign_crl(authority: Authority) -> None:
    """Sign a CRL, write the newest one, and say the number of the one signed."""
    crl = x509.load_pem_x509_crl(authority.crl_pem())
    authority.write_crl(authority.directory / "crl.pem")
    say(f"crl {crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number}")


def crowd(directory: Path, prefix: str, count: int) -> None:
    """Issue, revoke and sign CRLs as fast as possible, beside other processes that do the same."""
    authority = Authority.open(directory)
    issue(authority, "contested")
    for number in range(count):
        issue(authority, f"{prefix}-{number}")
        authority.revoke(f"{prefix}-{number}")
        sign_crl(authority)


def die(directory: Path, rounds: int, seed: int) -> None:
    """Work in a child that is killed at a random moment, `rounds` times over.

    How far it comes in what time depends on what else this machine does, so the latest moment
    follows it: later while children die before their first certificate, else sooner.
    """
    moments, latest_s = random.Random(seed), 0.12
    for number in range(rounds):
        started, begun = os.pipe()
        child = os.fork()
        if child == 0:
            authority = Authority.open(directory)
            os.write(begun, b"x")
            for step in range(1000):
                issue(authority, f"victim-{number}-{step}")
                os.write(begun, b"x")
                authority.revoke(f"victim-{number}-{step}")
                sign_crl(authority)
            os._exit(1)  # it should never have got this far
        os.close(begun)
        os.read(started, 1)
        time.sleep(moments.uniform(0, latest_s))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        latest_s *= 0.95 if os.read(started, 1) else 1.2
        os.close(started)


def renew(home: Path, count: int) -> None:
    """Renew one device by command, beside other processes that do the same; refusals are part of
    it.
    """
    for _ in range(count):
        main(["renew", "rival", "--home", str(home)], command="ca")


def born(directory: Path, rounds: int, seed: int) -> None:
    """Make an authority in a child that is killed at a random moment, until `rounds` of them were
    made whole.

    How long that takes depends on what else this machine does, so the latest moment follows it.
    """
    moments, made, latest_s = random.Random(seed), 0, 0.03
    while made < rounds:
        child = os.fork()
        if child == 0:
            Authority.create(directory / f"ca-{made}", passphrase=None, intermediate=True)
            os._exit(0)
        time.sleep(moments.uniform(0, latest_s))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if (directory / f"ca-{made}").exists():
            issue(Authority.open(directory / f"ca-{made}"), "first")
            made += 1
            latest_s *= 0.8
        else:
            latest_s *= 1.1
            say("unborn 1")


def starve(directory: Path) -> None:
    """Work under ever larger limits on the size of a file, as a nearly full disk or a quota sets
    them.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    authority = Authority.open(directory)
    for limit in (0, 512, 1024, 4096, 8192, 12288, 16384, 24576, 28672, 32768, 36864):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            issue(authority, f"starved-{limit}")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    issue(authority, "fed")


def fill(directory: Path) -> None:
    """Work until the file system is full, then free some space and go on."""
    reserve = directory / "reserve"
    reserve.write_bytes(bytes(40_000))
    Authority.create(directory / "ca", passphrase=None)
    authority = Authority.open(directory / "ca")
    number = 0
    while issue(authority, f"filling-{number}"):
        number += 1
    reserve.unlink()
    issue(authority, "freed")
    for entry in authority.inventory.entries("device"):
        say(f"recorded {entry.serial}")


if __name__ == "__main__":
    mode, where, *rest = sys.argv[1:]
    if mode == "crowd":
        crowd(Path(where), rest[0], int(rest[1]))
    elif mode == "die":
        die(Path(where), int(rest[0]), int(rest[1]))
    elif mode == "renew":
        renew(Path(where), int(rest[0]))
    elif mode == "born":
        born(Path(where), int(rest[0]), int(rest[1]))
    elif mode == "starve":
        starve(Path(where))
    else:
        fill(Path(where))
