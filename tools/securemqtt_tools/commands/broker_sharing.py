"""What an issued or revoked certificate means for groups: whoever gets one of its own, or is
revoked, shares that of a group no more, and no device is called like a group.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from securemqtt_tools.cli import FatalError, as_called
from securemqtt_tools.commands.broker_rules import change_rules, check_no_group, rules_of
from securemqtt_tools.pki import Authority, Issued
from securemqtt_tools.pki.profiles import DEVICE


def heed_rules(args: argparse.Namespace, authority: Authority) -> Authority:
    """Have each device to which a certificate is issued share no other from that moment on,
    whatever fails afterwards, and none issued to one with the name of a group, or where the rules
    cannot be read. Return the authority.
    """

    def look(role: str, subject: str) -> None:
        if role == DEVICE:
            check_no_group(authority, rules_of(args), [subject])

    def leave(issued: Issued) -> None:
        if issued.role == DEVICE:
            leave_shared(args, authority, [issued.subject])

    authority.before_issuing, authority.on_issued = look, leave
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


@contextmanager
def no_more_sharing(
    args: argparse.Namespace, authority: Authority, ids: Iterable[str]
) -> Iterator[None]:
    """Have ids that are to stay out share no certificate any more, if they did, before they are
    revoked inside, since they have no other way in then. Where that fails, they are revoked all the
    same: raise FatalError for it at the end.
    """
    fault, concerned = None, sorted(ids)
    try:
        if concerned:
            revoke_shared(args, authority, concerned)
    except FatalError as error:
        fault = error
    yield
    if fault is not None:
        raise FatalError(
            f"{fault}. All else is done; then have a look (securemqtt broker group GROUP) whether "
            f"one of these shares a certificate, and take it out by --remove: "
            f"{', '.join(concerned)}"
        ) from fault


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
