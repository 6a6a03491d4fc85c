"""`securemqtt broker client-config`: its arguments, and what it does."""

from __future__ import annotations

import argparse
from pathlib import Path, PurePosixPath

from securemqtt_tools import completion
from securemqtt_tools.broker.clients import KINDS
from securemqtt_tools.broker.clients.identity import find
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import write_file
from securemqtt_tools.pki.names import check_device_id


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    identity = parser.add_argument("id", metavar="ID", help="the id in the certificate")
    completion.completed(identity, completion.ids)
    parser.add_argument(
        "--for", dest="kind", required=True, choices=KINDS, metavar="CLIENT", help=", ".join(KINDS)
    )
    parser.add_argument(
        "--bundle",
        type=Path,
        metavar="DIR",
        help="where its files are (default: HOME/bundles/ID, else what ca device has written)",
    )
    parser.add_argument(
        "--directory",
        type=PurePosixPath,
        metavar="DIR",
        help="where the client will find the files, on its own computer (default: where they are)",
    )
    parser.add_argument("--host", help="the broker's name (default: the bundle's)")
    parser.add_argument(
        "--websockets", action="store_true", help="through the broker's port for WebSockets"
    )
    parser.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help="the password of ID, where the broker demands one",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write it to FILE, owner-only, instead (-: print it)",
    )


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
