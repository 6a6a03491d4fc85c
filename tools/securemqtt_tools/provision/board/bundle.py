"""A board's bundle, in `/secure`: what is missing there, a new identity put beside the old one, and
what that has left removed.
"""

from __future__ import annotations

import json
from datetime import datetime

from securemqtt_tools.provision.board import survey
from securemqtt_tools.provision.board.deploy import Plan, carry_out, make_plan, verify
from securemqtt_tools.provision.board.files import remove, sha256
from securemqtt_tools.provision.board.order import Order
from securemqtt_tools.provision.board.repl import Board
from securemqtt_tools.provision.board.survey import CLAIM, SECURE
from securemqtt_tools.provision.bundle import (
    BOARD_NAMES,
    CONFIG,
    LOGIN_SUFFIX,
    Files,
    anchor_files,
    config_text,
    identity_files,
    named_files,
    password_files,
)
from securemqtt_tools.provision.identity import reason_for

# At most so many files are written for a new identity.
IDENTITY_FILES = 7
_OURS = (".der", LOGIN_SUFFIX)


class BoardBundle:
    """The bundle of one board; `held` has the hashes of what is on the board.

    What needs no new certificate is found at once, and asks for no passphrase.
    """

    def __init__(self, order: Order, board: Board, held: dict[str, str | None]) -> None:
        self._order = order
        self._board = board
        self._held = {path: held[path] for path in held if path.startswith(SECURE + "/")}
        self._identity = survey.ask_identity(board, self._held)
        # A little in the past: the board's clock may be some seconds behind, and is not wrong then.
        self._clock_floor = int(order.authority.now.timestamp()) - survey.CLOCK_SLACK_S
        config = self._identity.config
        current = config if isinstance(config.get("key"), str) else BOARD_NAMES
        anchors = anchor_files(order.anchors(), self._identity.hashes, der=True)
        password = password_files(order.settings, config, self._identity.hashes)
        self._names: dict[str, object] = {
            **anchors.names,
            **password.names,
            "certificate": current.get("certificate"),
            "key": current["key"],
        }
        self._missing = make_plan({**_placed(anchors), **_placed(password)}, self._held)
        self._config = self._config_with(self._names)

    def reason(self) -> str | None:
        """Say why the board needs a new certificate, or return None when its own will do. Raise
        FatalError.
        """
        if self._order.renew:
            return "to be renewed"
        return reason_for(self._identity, self._order.authority, self._order.settings)

    @property
    def incomplete(self) -> bool:
        """Whether anything is to be done even if the certificate stays."""
        return bool(self._missing.writes or self._config or self._obsolete(self._names))

    def describe(self, reason: str | None) -> list[str]:
        """Return in words, a line each, what is to be done; `reason` is that of a new
        certificate.
        """
        if reason:
            lines = [
                f"{'import the' if self._order.settings.made_elsewhere else 'issue a'} certificate "
                f"({reason}) and write it and its private key to {SECURE}"
            ]
        else:
            lines = self._missing.describe()
        if reason or self._config:
            lines.append(f"write {SECURE}/{CONFIG}")
        if not reason:
            lines += [f"remove {path}" for path in self._obsolete(self._names)]
        return lines

    def complete(self) -> None:
        """Do what is to be done if the certificate stays. Raise FatalError."""
        self._put(self._missing, self._config, self._names)

    def issue(self) -> datetime:
        """Have a certificate issued and put it on the board with its key, in place of what is
        there; return when it ends. Raise FatalError.
        """
        order = self._order
        device_id = order.settings.device_id
        # From here on a run that is cut short is known by its claim, so the next may issue for this
        # id again.
        carry_out(self._board, Plan({CLAIM: json.dumps({"client_id": device_id}).encode()}))
        issued = order.authority.issue_device(device_id, days=order.certificate_days, renew=True)
        ends = issued.certificate.not_valid_after_utc
        private = identity_files(issued, self._identity.hashes, der=True)
        del issued  # with it goes the key: what is left of it here is what is sent
        names = {**self._names, **private.names}
        files = Plan({**_placed(private), **self._missing.writes})
        del private
        self._put(files, self._config_with(names), names)
        return ends

    def _config_with(self, names: dict[str, object]) -> bytes | None:
        order = self._order
        return config_text(
            order.settings,
            names,
            self._identity.config,
            self._clock_floor,
            order.profile.journal_bytes,
        )

    def _put(self, files: Plan, config: bytes | None, names: dict[str, object]) -> None:
        """Write files, check them, name them in config.json, and only then remove what it named
        before.
        """
        board = self._board
        carry_out(board, files)
        verify(board, {path: sha256(content) for path, content in files.writes.items()})
        if config is not None:
            carry_out(board, Plan({f"{SECURE}/{CONFIG}": config}))
        remove(board, [CLAIM, *self._obsolete(names)])

    def _obsolete(self, names: dict[str, object]) -> list[str]:
        """Return what an earlier identity has left, its private key for one, once config.json holds
        `names`.
        """
        named = {f"{SECURE}/{name}" for name in named_files(names)}
        return [
            path
            for path in self._held
            if path == CLAIM or (path.endswith(_OURS) and path not in named)
        ]


def _placed(files: Files) -> dict[str, bytes]:
    return {f"{SECURE}/{name}": content for name, content in files.content.items()}
