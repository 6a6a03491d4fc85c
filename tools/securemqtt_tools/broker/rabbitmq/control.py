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
# told. So who has lost something is disconnected, and only once his connection, its channels and
# the process that reads from him are no more, what may not be read any more is unbound: nobody is
# left who could bind it again. That process waits for a client that takes nothing, for ever: then
# it is killed. A connection that comes in between was told what holds by now.
_TAKE_UP = """\
true = register(securemqtt_taking_up, self()),
Read = fun(File) -> {{ok, Text}} = file:read_file(File), Text end,
ok = rabbit_definitions:import_raw(Read({changes})),
ssl:clear_pem_cache(),
By = <<"securemqtt">>,
Gone = {gone},
[ok = rabbit_auth_backend_internal:delete_user(One, By)
  || One <- Gone, rabbit_auth_backend_internal:exists(One)],
Lost = Gone ++ {cut},
IsOut = fun(User) -> {everyone} orelse lists:member(User, Lost) end,
pg_local:sync(),
Out = [One || One <- rabbit_direct:list_local(),
  case catch amqp_connection:info(One, [user]) of [{{user, User}}] -> IsOut(User); _ -> true end],
Channels = [One || Out =/= [], One <- rabbit_channel:list_local(),
  case catch rabbit_channel:info(One, [connection]) of
    [{{connection, Of}}] -> lists:member(Of, Out);
    _ -> true
  end],
Readers = [One || {{links, Links}} <- [process_info(Pid, links) || Pid <- Out],
  One <- Links, is_pid(One), proc_lib:translate_initial_call(One) =/= {{supervisor2, init, 1}}],
[amqp_direct_connection:server_close(One, 320, <<"its rights have changed">>) || One <- Out],
Wait = fun
  Again([], _) -> ok;
  Again(_, 0) -> error(still_connected);
  Again(Pids, Left) ->
    Left =:= {waits} - {patience} andalso [exit(One, kill) || One <- Readers],
    timer:sleep(10),
    Again([One || One <- Pids, is_process_alive(One)], Left - 1)
end,
ok = Wait(Out ++ Channels ++ Readers, {waits}),
Bindings = fun() -> lists:append([
  rabbit_binding:list_for_destination(
    rabbit_misc:r({vhost}, queue, <<{queue}, One/binary, "qos", Qos/binary>>))
  || One <- Lost, Qos <- [<<"0">>, <<"1">>]]) end,
{unbind},
true = unregister(securemqtt_taking_up),
{done}.
"""
# At the start nobody is connected, and all is looked through that is kept from before.
_FIRST = """\
Read = fun(File) -> {{ok, Text}} = file:read_file(File), Text end,
Definitions = Read({definitions}),
ok = rabbit_definitions:import_raw(Definitions),
ok = supervisor:terminate_child(rabbit_sup, rabbit_epmd_monitor_sup),
By = <<"securemqtt">>,
#{{<<"users">> := Users}} = rabbit_json:decode(Definitions),
Here = [proplists:get_value(user, One) || One <- rabbit_auth_backend_internal:list_users()],
[ok = rabbit_auth_backend_internal:delete_user(One, By)
  || One <- Here -- [maps:get(<<"name">>, One) || One <- Users]],
Bindings = fun() ->
  rabbit_binding:list_for_source(rabbit_misc:r({vhost}, exchange, {exchange})) end,
{unbind},
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
Left = fun() -> [One || One <- Bindings(), element(2, One) =:= From, not May(One)] end,
case Left() of
  [] -> ok;
  Some ->
    [rabbit_binding:remove(One, By) || One <- Some],
    [] = Left()
end"""
_WAITS = 6000  # of 10 ms
_PATIENCE = 300


def first_program(definitions: Path) -> bytes:
    """Return the program in Erlang for the start: it holds these definitions, and nothing of before
    besides.
    """
    return _filled(_FIRST, definitions=erlang_string(str(definitions)))


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
            everyone="true" if self.everyone else "false",
            waits=str(_WAITS),
            patience=str(_PATIENCE),
        )


def _filled(program: str, **values: str) -> bytes:
    constants = {
        "vhost": _binary(VHOST),
        "exchange": _binary(EXCHANGE),
        "queue": erlang_string(QUEUE),
    }
    unbind = _UNBIND.format(module=MODULE, **constants)
    return program.format(unbind=unbind, done=DONE, **constants, **values).encode()


def _binary(text: str) -> str:
    return f"<<{erlang_string(text)}>>"


def _binaries(texts: Collection[str]) -> str:
    return f"[{', '.join(map(_binary, sorted(texts)))}]"
