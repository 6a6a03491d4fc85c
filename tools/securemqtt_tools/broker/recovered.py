"""What the directory that a backup has replaced says of rules and roles: it is the later one, so
that nobody gets back by the backup what was taken from him since.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from securemqtt_tools.broker.config import CRL, SETTINGS, BrokerConfig
from securemqtt_tools.broker.rules import Rules
from securemqtt_tools.broker.rules_file import NAME, newest_rules, write_rules
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.files import explained
from securemqtt_tools.pki.layout import INVENTORY

# From less to more: an operator commands devices.
_RANKS = (None, "monitor", "operator")


@dataclass(frozen=True)
class Later:
    """The rules with the most changes, and the broker's directory that was changed last; None where
    there are none.
    """

    rules: Rules | None
    broker: Path | None


def look(places: Iterable[Path]) -> Later:
    """Look through directories, and what is below them. Raise FatalError for what cannot be read,
    or is damaged.
    """
    below = [place for place in places if place.is_dir()]
    rules = [one for one in _holding(below, NAME) if _is_ours(one)]
    brokers = sorted(
        (one for one in _holding(below, SETTINGS) if _is_ours(one)),
        key=lambda one: (one / SETTINGS).stat().st_mtime,
    )
    return Later(newest_rules(*rules) if rules else None, brokers[-1] if brokers else None)


def take_over(later: Later, authority: Authority, broker: Path) -> list[str]:
    """Have an authority and a broker's directory have them; return what was done, a line each.
    Raise FatalError.
    """
    done: list[str] = []
    with authority.inventory.transaction():  # whose lock is the rules', too
        now = newest_rules(authority.directory, broker)
        if later.rules is not None and later.rules.number > now.number:
            for directory in (authority.directory, broker):
                if directory.is_dir():
                    write_rules(directory, later.rules)
            count = f"rules: {len(later.rules.lines)}, groups: {len(later.rules.groups)}"
            done.append(f"Taken over: {count}.")
        elif later.rules is not None and later.rules.number == now.number and later.rules != now:
            done.append(
                "Left: rules, since those here were changed as often, though they are not the "
                "same. Compare them: securemqtt broker rules, here and with --home OLD"
            )
    if (broker / SETTINGS).exists():
        config = BrokerConfig.open(broker)
        if later.broker is not None:
            there = BrokerConfig.open(later.broker).roles
            lessened = _differing(config.roles, there, less=True)
            if lessened:
                kept = {one: role for one, role in config.roles.items() if one not in lessened}
                less = {one: there[one] for one in lessened if one in there}
                config = replace(config, roles={**kept, **less})
                done.append(f"Taken over: roles: {', '.join(lessened.values())}.")
            grown = _differing(config.roles, there, less=False)
            if grown:
                done.append(
                    f"Left: roles: {', '.join(grown.values())}. Whom they were given later, give "
                    f"them again: securemqtt broker grant"
                )
        config.save()  # the rules, too, in the form that the broker reads
    return done


def _differing(now: Mapping[str, str], there: Mapping[str, str], less: bool) -> dict[str, str]:
    """Return in words whose roles are less there than here, or more."""
    found = {}
    for one in sorted(now.keys() | there.keys()):
        ours, theirs = now.get(one), there.get(one)
        if ours != theirs and (_RANKS.index(theirs) < _RANKS.index(ours)) is less:
            found[one] = f"{one} ({ours or 'none'} here, {theirs or 'none'} there)"
    return found


def _is_ours(directory: Path) -> bool:
    """Return True for an authority's directory, or a broker's: others have files of these names."""
    return any((directory / name).exists() for name in (CRL, INVENTORY))


def _holding(directories: Iterable[Path], name: str) -> Iterator[Path]:
    for directory in directories:
        with explained(f"read {directory}"):
            yield from (one.parent for one in sorted(directory.rglob(name)))
