"""The rules as Mosquitto reads them: an ACL file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from securemqtt_tools.broker.rules import ROLES, Rules, own_filter


def acl_text(roles: Mapping[str, str], rules: Rules) -> str:
    """Return the file's text; `roles` maps identities to names in ROLES.

    Mosquitto knows no groups, so each member has the lines of its groups. It looks at what is
    denied first, and at the pattern last.
    """
    lines = [
        "# Written by securemqtt broker. Everyone: the own prefix, nothing else.",
        f"pattern readwrite {own_filter('%u')}",
    ]
    for identity in sorted(roles.keys() | rules.identities()):
        lines += ["", *_user(identity, roles.get(identity), rules)]
    return "\n".join(lines) + "\n"


def _user(identity: str, role: str | None, rules: Rules) -> Iterator[str]:
    if role is not None:
        yield f"# {role}: {ROLES[role].summary}"
    groups = rules.groups_of(identity)
    if groups:
        yield f"# in {', '.join(groups)}"
    yield f"user {identity}"
    access = rules.access(identity, role)
    for topic_filter in access.denied:
        yield f"topic deny {topic_filter}"
    for topic_filter in access.read:
        if topic_filter != own_filter(identity):
            yield f"topic read {topic_filter}"
    for topic_filter in access.write:
        if topic_filter != own_filter(identity):
            yield f"topic write {topic_filter}"
