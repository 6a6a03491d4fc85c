"""Having RabbitMQ take up what has changed: one program in Erlang for all of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from securemqtt_tools.broker.rabbitmq.client_id import MODULE
from securemqtt_tools.broker.rabbitmq.definitions import EXCHANGE, QUEUE, VHOST
from securemqtt_tools.broker.rabbitmq.settings import erlang_string

DONE = "taken_up"
# RabbitMQ asks what may be read when somebody subscribes, and a connection remembers what it was
# told. So who has lost something is disconnected, wherever he is, and only once nothing of his
# connection is left, what may not be read any more is unbound: nobody could bind it again. A
# connection that comes in between was told what holds by now.
_HOLD = """\
[Everyone, Lost] = {module}:note({everyone}, Gone ++ Cut),
ok = rabbit_definitions:import_raw(Changes),
ssl:clear_pem_cache(),
By = <<"securemqtt">>,
[ok = rabbit_auth_backend_internal:delete_user(One, By)
  || One <- Gone, rabbit_auth_backend_internal:exists(One)],
ok = {module}:put_out_everywhere(Everyone, Lost),
{unbind},
{module}:forget()"""
_TAKE_UP = """\
true = register(securemqtt_taking_up, self()),
{{ok, Changes}} = file:read_file({changes}),
Gone = {gone},
Cut = {cut},
Bindings = fun(Of) -> lists:append([
  rabbit_binding:list_for_destination(
    rabbit_misc:r({vhost}, queue, <<{queue}, One/binary, "qos", Qos/binary>>))
  || One <- Of, Qos <- [<<"0">>, <<"1">>]]) end,
{hold},
true = unregister(securemqtt_taking_up),
{done}.
"""
# At the start all is looked through that is kept from before. A node by itself has nobody connected
# yet; the others of a cluster may have, and these lose what is not what they held.
_FIRST = """\
{{ok, Changes}} = file:read_file({definitions}),
ok = supervisor:terminate_child(rabbit_sup, rabbit_epmd_monitor_sup),
#{{<<"users">> := Users, <<"topic_permissions">> := Permissions}} = rabbit_json:decode(Changes),
Here = [proplists:get_value(user, One) || One <- rabbit_auth_backend_internal:list_users()],
Gone = Here -- [maps:get(<<"name">>, One) || One <- Users],
Held = maps:from_list([{{proplists:get_value(user, One),
    [proplists:get_value(Which, One) || Which <- [read, write]]}}
  || One <- rabbit_auth_backend_internal:list_topic_permissions()]),
Cut = [One || #{{<<"user">> := One, <<"read">> := Read, <<"write">> := Write}} <- Permissions,
  maps:get(One, Held, [Read, Write]) =/= [Read, Write]],
Bindings = fun(_) ->
  rabbit_binding:list_for_source(rabbit_misc:r({vhost}, exchange, {exchange})) end,
{hold},
{done}.
"""
# A node for which the first one takes up the rules.
_JOIN = """\
ok = supervisor:terminate_child(rabbit_sup, rabbit_epmd_monitor_sup),
{await},
{done}.
"""
_PUT_OUT = """\
ssl:clear_pem_cache(),
ok = {module}:put_out({everyone}, {cut}),
{done}.
"""
# By RabbitMQ's own judgement, so nothing is left that it would refuse.
_UNBIND = """\
May = fun({{binding, _, Key, {{resource, _, queue, <<{queue}, Rest/binary>>}}, _}}) ->
    User = {{auth_user, binary:part(Rest, 0, byte_size(Rest) - 4), [], none}},
    {module}:check_topic_access(
      User, {{resource, {vhost}, topic, {exchange}}}, read, #{{routing_key => Key}});
  (_) -> false
end,
From = rabbit_misc:r({vhost}, exchange, {exchange}),
Left = fun() -> [One || One <- Bindings(Lost), element(2, One) =:= From, not May(One)] end,
case Left() of
  [] -> ok;
  Some ->
    [rabbit_binding:remove(One, By) || One <- Some],
    [] = Left()
end"""


def first_program(definitions: Path) -> bytes:
    """Return the program in Erlang for the start: it holds these definitions, and nothing of before
    besides.
    """
    return _filled(_FIRST, definitions=erlang_string(str(definitions)), everyone="false")


def joining_program(await_others: str) -> bytes:
    """Return the program for the start of a node that writes no users: it waits, by a call in
    Erlang, for the one that does.
    """
    return _filled(_JOIN, **{"await": await_others})


def put_out_program(devices: Collection[str], everyone: bool) -> bytes:
    """Return the program that ends connections at this node alone, which has read a new CRL."""
    return _filled(_PUT_OUT, everyone=_boolean(everyone), cut=_binaries(devices))


@dataclass(frozen=True)
class Change:
    """What a running RabbitMQ is to take up: users and permissions that are in a file, who is
    `gone`, and who is `cut`, since he has lost something.
    """

    changes: Path
    gone: Collection[str] = ()
    cut: Collection[str] = ()
    everyone: bool = False

    def program(self) -> bytes:
        """Return the program in Erlang."""
        return _filled(
            _TAKE_UP,
            changes=erlang_string(str(self.changes)),
            gone=_binaries(self.gone),
            cut=_binaries(self.cut),
            everyone=_boolean(self.everyone),
        )


def _filled(program: str, **values: str) -> bytes:
    constants = {
        "module": MODULE,
        "vhost": _binary(VHOST),
        "exchange": _binary(EXCHANGE),
        "queue": erlang_string(QUEUE),
    }
    unbind = _UNBIND.format(**constants)
    hold = _HOLD.format(unbind=unbind, **constants, everyone=values.get("everyone", "false"))
    return program.format(hold=hold, done=DONE, **constants, **values).encode()


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _binary(text: str) -> str:
    return f"<<{erlang_string(text)}>>"


def _binaries(texts: Collection[str]) -> str:
    return f"[{', '.join(map(_binary, sorted(texts)))}]"
