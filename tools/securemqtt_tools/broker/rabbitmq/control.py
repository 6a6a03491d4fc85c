"""Speaking to a RabbitMQ that runs: one program in Erlang for all that has changed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from securemqtt_tools.broker.rabbitmq.definitions import EXCHANGE, QUEUE, VHOST
from securemqtt_tools.broker.rabbitmq.settings import erlang_string

DONE = "taken_up"
# RabbitMQ asks what may be read when somebody subscribes, and remembers for a connection what it
# has published. So what may not be read any more is unbound, by RabbitMQ's own judgement, and who
# has lost something is disconnected. Who was deleted is disconnected by RabbitMQ.
_PROGRAM = """\
Read = fun(File) -> {{ok, Text}} = file:read_file(File), Text end,
Changes = Read({changes}),
ok = rabbit_definitions:import_raw(Changes),
ssl:clear_pem_cache(),
supervisor:terminate_child(rabbit_sup, rabbit_epmd_monitor_sup),
By = <<"securemqtt">>,
Here = [proplists:get_value(user, One) || One <- rabbit_auth_backend_internal:list_users()],
Gone = case {first} of
  true ->
    #{{<<"users">> := Users}} = rabbit_json:decode(Read({definitions})),
    Here -- [maps:get(<<"name">>, One) || One <- Users];
  false -> [One || One <- Here, lists:member(One, {gone})]
end,
[ok = rabbit_auth_backend_internal:delete_user(One, By) || One <- Gone],
Exchange = rabbit_misc:r({vhost}, exchange, {exchange}),
Queues = [rabbit_misc:r({vhost}, queue, <<{queue}, One/binary, "qos", Qos/binary>>)
  || One <- Gone ++ {cut}, Qos <- [<<"0">>, <<"1">>]],
Bindings = case {first} of
  true -> rabbit_binding:list_for_source(Exchange);
  false -> lists:append([rabbit_binding:list_for_destination(One) || One <- Queues])
end,
May = fun({{binding, _, Key, {{resource, _, queue, <<{queue}, Rest/binary>>}}, _}}) ->
    User = binary:part(Rest, 0, byte_size(Rest) - 4),
    rabbit_auth_backend_internal:exists(User) andalso
      rabbit_auth_backend_internal:check_topic_access(
        {{auth_user, User, [], none}}, {{resource, {vhost}, topic, {exchange}}}, read,
        #{{routing_key => Key, variable_map => #{{}}}});
  (_) -> false
end,
[rabbit_binding:remove(One, By)
  || One <- Bindings, element(2, One) =:= Exchange, not May(One)],
IsOut = fun(User) -> {everyone} orelse lists:member(User, Gone ++ {cut}) end,
Out = [One || One <- rabbit_connection_tracking:list(), IsOut(element(11, One))],
rabbit_connection_tracking:close_connections(Out, "its rights have changed", 0),
IsThere = fun(Pid) -> rpc:call(node(Pid), erlang, is_process_alive, [Pid]) =:= true end,
Wait = fun
  Again(0) -> error(still_connected);
  Again(Left) ->
    case lists:any(IsThere, [element(6, One) || One <- Out]) of
      true -> timer:sleep(10), Again(Left - 1);
      false -> {done}
    end
end,
Wait(1000).
"""


@dataclass(frozen=True)
class Change:
    """What a running RabbitMQ is to take up: users and permissions that are in a file, who is
    `gone`, and who is `cut`, since he has lost something. With `first` all is looked through that
    is kept from before the start; `alone`, without other nodes, everyone is put out then.
    """

    changes: Path
    definitions: Path
    gone: Collection[str] = ()
    cut: Collection[str] = ()
    everyone: bool = False
    first: bool = False
    alone: bool = True

    def program(self) -> bytes:
        """Return the program in Erlang."""
        text = _PROGRAM.format(
            changes=erlang_string(str(self.changes)),
            definitions=erlang_string(str(self.definitions)),
            gone=_binaries(self.gone),
            cut=_binaries(self.cut),
            everyone=_boolean(self.everyone or (self.first and self.alone)),
            first=_boolean(self.first),
            vhost=_binary(VHOST),
            exchange=_binary(EXCHANGE),
            queue=erlang_string(QUEUE),
            done=DONE,
        )
        return text.encode()


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _binary(text: str) -> str:
    return f"<<{erlang_string(text)}>>"


def _binaries(texts: Collection[str]) -> str:
    return f"[{', '.join(map(_binary, sorted(texts)))}]"
