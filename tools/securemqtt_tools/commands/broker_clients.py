"""What `securemqtt broker client-config` does."""

from __future__ import annotations

import argparse
from pathlib import Path

from securemqtt_tools.broker.clients import KINDS
from securemqtt_tools.broker.clients.identity import find
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import write_file
from securemqtt_tools.pki.names import check_device_id


def client_config(args: argparse.Namespace) -> int:
    """Print what another client needs, or write it to a file."""
    kind = KINDS[args.kind]
    out: Path | None = None if args.out == Path("-") else args.out
    if kind.holds_key and out is None:
        raise FatalError(
            "this header holds the private key, which is not for a terminal: name the file that it "
            "is to go to, owner-only, with --out FILE"
        )
    if args.websockets and not kind.websockets:
        raise FatalError(f"{args.kind} does not speak WebSockets: leave out --websockets")
    if out is not None and out.exists():
        raise FatalError(f"{out} exists and was left as it is: choose another file")
    if out is not None and not out.parent.is_dir():
        raise FatalError(f"there is no directory {out.parent}: make it first")
    identity = find(
        args.home,
        check_device_id(args.id),
        bundle=args.bundle,
        host=args.host,
        websockets=args.websockets,
        password_file=args.password_file,
        elsewhere=args.directory,
    )
    text = kind.write(identity)
    if out is None:
        print(text, end="")
    else:
        write_file(out, text.encode())
        print(f"It is in {out}, which only you may read.")
    return 0
