"""What the directory that a backup has replaced says of rules and roles: it is the later one, so
that nobody gets back by the backup what was taken from him since.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from securemqtt_tools.broker.config import SETTINGS, BrokerConfig
from securemqtt_tools.broker.rules import Rules
from securemqtt_tools.broker.rules_file import NAME, newest_rules, write_rules
from securemqtt_tools.pki import Authority
from securemqtt_tools.pki.files import explained


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
    rules = list(_holding(below, NAME))
    brokers = sorted(_holding(below, SETTINGS), key=_changed_at)
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
    if (broker / SETTINGS).exists():
        config = BrokerConfig.open(broker)
        if later.broker is not None:
            there = BrokerConfig.open(later.broker)
            differing = _differing(config.roles, there.roles)
            if differing and _changed_at(later.broker) > _changed_at(broker):
                config = replace(config, roles=there.roles)
                done.append(f"Taken over: roles: {differing}.")
            elif differing:
                done.append(
                    f"Left: roles, since those of {later.broker} are older, though not the same: "
                    f"{differing}. Compare them: securemqtt broker status"
                )
        config.save()  # the rules, too, in the form that the broker reads
    return done


def _differing(now: Mapping[str, str], there: Mapping[str, str]) -> str:
    """Say in whose roles two differ, the first here, the second there."""
    return ", ".join(
        f"{one} ({now.get(one, 'none')} here, {there.get(one, 'none')} there)"
        for one in sorted(now.keys() | there.keys())
        if now.get(one) != there.get(one)
    )


def _changed_at(broker: Path) -> float:
    with explained(f"look at {broker / SETTINGS}"):
        return (broker / SETTINGS).stat().st_mtime


def _holding(directories: Iterable[Path], name: str) -> Iterator[Path]:
    for directory in directories:
        with explained(f"read {directory}"):
            yield from (one.parent for one in sorted(directory.rglob(name)))
