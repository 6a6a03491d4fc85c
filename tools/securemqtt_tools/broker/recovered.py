"""What the directory that a backup has replaced says of rules, roles and passwords: it is the later
one, so that nobody gets back by the backup what was taken from him since.

What is damaged there costs only what it held, and is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TypeVar

from securemqtt_tools.broker.config import CA, CRL, PASSWORDS, SETTINGS, BrokerConfig
from securemqtt_tools.broker.merged import merged, told
from securemqtt_tools.broker.passwords import read_hashes, remove_password
from securemqtt_tools.broker.rules import Rules
from securemqtt_tools.broker.rules_file import NAME, newest_rules, read_rules, write_rules
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.layout import ROOT_CERTIFICATE
from securemqtt_tools.pki.recovery import (
    below,
    certificates_in,
    content_of,
    search,
    signed_crls,
)

# From less to more: an operator commands devices.
_RANKS = (None, "monitor", "operator")
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Broker:
    """What a broker's directory alone says: the roles, and the hashes of passwords; None where it
    demands none.
    """

    roles: Mapping[str, str]
    hashes: Mapping[str, str] | None


@dataclass(frozen=True)
class Later:
    """The rules and the brokers' directories of an authority that were found, and what could not be
    read of them, a line each.
    """

    rules: tuple[Rules, ...] = ()
    brokers: tuple[Broker, ...] = ()
    unread: tuple[str, ...] = ()


def look(places: Iterable[Path], authority: Authority) -> Later:
    """Look through directories, and what is below them, for what is of this authority: others have
    files of these names, too. Raise FatalError where a part cannot be read, and the rest is none
    of this authority's.
    """
    unread: list[str] = []
    rules, brokers = [], []
    files = _files(places, authority, unread)
    for path in (one for one in files if one.name == NAME):
        found = _read(path, lambda one: read_rules(one.parent), "rules", unread)
        rules += [found] if found is not None else []
    for path in (one for one in files if one.name == SETTINGS):
        config = _read(path, lambda one: BrokerConfig.open(one.parent), "roles", unread)
        if config is not None:
            file = path.with_name(PASSWORDS)
            hashes = _read(file, read_hashes, "passwords", unread) if config.passwords else None
            brokers.append(Broker(config.roles, hashes))
    return Later(tuple(rules), tuple(brokers), tuple(unread))


def take_over(later: Later, authority: Authority, broker: Path) -> list[str]:
    """Have an authority and a broker's directory have them; return what was done, and what is to be
    looked at, a line each. Raise FatalError.
    """
    done = _take_over_rules(later.rules, authority, broker) if later.rules else []
    if (broker / SETTINGS).exists():
        config = BrokerConfig.open(broker)
        if later.brokers:
            config, said = _with_less(config, _least([one.roles for one in later.brokers]))
            done += said
        lists = [one.hashes for one in later.brokers if one.hashes is not None]
        if config.passwords:
            done += _take_away_passwords(broker / PASSWORDS, lists)
        config.follow_rules()  # in the form that the broker reads
    if any(line.startswith("Taken") for line in done):
        done.append(
            "The broker takes that up by securemqtt broker reload, and by securemqtt broker "
            "install where it is installed."
        )
    return [*done, *later.unread]


def _take_over_rules(found: Iterable[Rules], authority: Authority, broker: Path) -> list[str]:
    there = reduce(merged, sorted(found, key=lambda rules: rules.number, reverse=True))
    with authority.inventory.transaction():  # whose lock is the rules', too
        here = newest_rules(authority.directory, broker)
        sides = (there, here) if there.number > here.number else (here, there)
        both = merged(*sides)
        if both != here:
            for directory in (authority.directory, broker):
                if directory.is_dir():
                    write_rules(directory, both)
    said = told(here, there, both)
    said += [
        f"Who is to share the certificate of {group} again, of {', '.join(sorted(lost))}, gets in "
        f"by securemqtt ca device ID --shared {group}."
        for group, sharing in sorted(here.shared.items())
        if (lost := sharing - both.shared.get(group, frozenset()))
    ]
    if said:
        said.append("Look whether that is what you want: securemqtt broker rules")
    return said


def _least(found: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return for each the role that is the least of those that he has in several places."""
    ids = {one for roles in found for one in roles}
    least = {one: min((roles.get(one) for roles in found), key=_RANKS.index) for one in ids}
    return {one: role for one, role in least.items() if role is not None}


def _with_less(config: BrokerConfig, there: Mapping[str, str]) -> tuple[BrokerConfig, list[str]]:
    """Return settings in which nobody has a greater role than there, and what is to be said."""
    said: list[str] = []
    lessened = _differing(config.roles, there, less=True)
    if lessened:
        kept = {one: role for one, role in config.roles.items() if one not in lessened}
        less = {one: there[one] for one in lessened if one in there}
        config = config.changed(roles={**kept, **less})
        said.append(f"Taken over: roles: {', '.join(lessened.values())}.")
    grown = _differing(config.roles, there, less=False)
    if grown:
        said.append(
            f"Left: roles: {', '.join(grown.values())}. Whom they were given later, give them "
            f"again: securemqtt broker grant"
        )
    return config, said


def _differing(now: Mapping[str, str], there: Mapping[str, str], less: bool) -> dict[str, str]:
    """Return in words whose roles are less there than here, or more."""
    found = {}
    for one in sorted(now.keys() | there.keys()):
        ours, theirs = now.get(one), there.get(one)
        if ours != theirs and (_RANKS.index(theirs) < _RANKS.index(ours)) is less:
            found[one] = f"{one} ({ours or 'none'} here, {theirs or 'none'} there)"
    return found


def _take_away_passwords(file: Path, found: Sequence[Mapping[str, str]]) -> list[str]:
    """Take away the passwords of those who have none there; return what is to be said."""
    ours = read_hashes(file)
    gone = [one for one in sorted(ours) if any(one not in there for there in found)]
    for one in gone:
        remove_password(file, one)
    others = [
        one
        for one in sorted(ours.keys() - set(gone))
        if any(there[one] != ours[one] for there in found)
    ]
    said = [f"Taken away: passwords of those who have none there: {', '.join(gone)}."]
    if others:
        said.append(
            f"Left: passwords of those who have another one there: {', '.join(others)}. Those of "
            f"here let in, and may be older: make new ones with securemqtt broker password"
        )
    return said if gone else said[1:]


def _files(places: Iterable[Path], authority: Authority, unread: list[str]) -> list[Path]:
    """Return the files of rules and settings that are in a directory of the authority's, or of a
    broker's that goes by it; and a line more in `unread` for directories that may not be read.
    """
    closed: list[Path] = []
    found: list[Path] = []
    for place in places:
        if not place.is_dir():
            continue
        count = len(closed)
        found += [one for one in below(place, closed) if one.name in (NAME, SETTINGS)]
        if len(closed) > count and not search([place], authority.issuing_certificate):
            raise FatalError(
                f"{place} holds nothing that this authority has signed, as far as it may be read, "
                f"and {closed[count]} may not: run this as a user who may read it, root say"
            )
    unread += left_closed(closed)
    return [one for one in dict.fromkeys(found) if _is_ours(one.parent, authority)]


def left_closed(closed: Iterable[Path]) -> list[str]:
    """Say, in a line if there are any, which directories may not be read."""
    names = ", ".join(map(str, dict.fromkeys(closed)))
    what = (
        "which may not be read: run this again as a user who may, root say, and name it at the end"
    )
    return [f"Left: what is in {names}, {what}"] if names else []


def _is_ours(directory: Path, authority: Authority) -> bool:
    anchors = (directory / name for name in (ROOT_CERTIFICATE, CA))
    if any(authority.root in certificates_in(content_of(path)) for path in anchors):
        return True
    return bool(signed_crls(content_of(directory / CRL), authority.issuing_certificate))


def _read(
    path: Path, read: Callable[[Path], _Value], what: str, unread: list[str]
) -> _Value | None:
    """Return what a file holds; None, and a line more in `unread`, where it cannot be read."""
    why = "is damaged, or of another version of securemqtt"
    try:
        if path.is_file():
            return read(path)
        why = "is no file"
    except (FatalError, ValueError) as error:
        if isinstance(error.__cause__, OSError):
            why = f"cannot be read ({error.__cause__.strerror})"
    look_at = "rules" if what == "rules" else "status"
    unread.append(f"Left: the {what} of {path}, which {why}: look at securemqtt broker {look_at}")
    return None
