"""Who shares the certificate of a group no more: whoever gets one of its own, or is revoked."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from securemqtt_tools.cli import as_called
from securemqtt_tools.commands.broker_rules import change_rules, rules_of
from securemqtt_tools.pki import Authority, Issued
from securemqtt_tools.pki.profiles import DEVICE


def leave_at_issue(args: argparse.Namespace, authority: Authority) -> Authority:
    """Have each device to which a certificate is issued share no other from that moment on,
    whatever fails afterwards. Return the authority.
    """

    def leave(issued: Issued) -> None:
        if issued.role == DEVICE:
            leave_shared(args, authority, [issued.subject])

    authority.on_issued = leave
    return authority


def leave_shared(args: argparse.Namespace, authority: Authority, ids: Iterable[str]) -> None:
    """Have ids that have got certificates of their own share no other any more, if they did; the
    broker takes that up at its next reload. Raise FatalError.
    """
    for one, groups in _end(args, authority, ids).items():
        print(
            as_called(
                f"{one} shares the certificate of {groups} no more: once it uses its own, run "
                f"securemqtt broker reload. Its password stays."
            )
        )


def revoke_shared(args: argparse.Namespace, authority: Authority, ids: Iterable[str]) -> None:
    """Have ids that are to stay out share no certificate any more, if they did. Raise
    FatalError.
    """
    for one, groups in _end(args, authority, ids).items():
        print(
            as_called(
                f"{one} shares the certificate of {groups} no more: securemqtt broker reload puts "
                f"it out, if it came in by that. With Mosquitto its password lets it in all the "
                f"same, until securemqtt broker password {one} --remove."
            )
        )


def _end(args: argparse.Namespace, authority: Authority, ids: Iterable[str]) -> dict[str, str]:
    """End it; return who shared, and whose certificate."""
    rules = rules_of(args)
    had = {one: ", ".join(groups) for one in ids if (groups := rules.sharing(one))}
    if had:
        change_rules(args, authority, lambda before: before.without_shared(had))
    return had
