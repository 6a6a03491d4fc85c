"""A module in Erlang that RabbitMQ asks in place of its own rules where these are not enough.

- The client id is bound to the certificate, which RabbitMQ before 4.0 does not do: who has any
  certificate could end the connection of anybody, by claiming its client id. RabbitMQ asks who may
  enter before it ends another connection.
- A user without a topic permission may do nothing. RabbitMQ lets him do everything, and each user
  is such a one for a moment: the import writes one kind of permission after the other.
- At the start it has RabbitMQ hold what the files say, and opens MQTT's listeners only then.
- It puts devices out, of each node of a cluster, and remembers who is to be put out until he is.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from securemqtt.platform import escaped
from securemqtt_tools.broker.rabbitmq.definitions import EXCHANGE
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import explained, make_directory, write_file

MODULE = "securemqtt_client_id"
_COMPILE_S = 60.0
_SAID = 300  # characters
_NODE_MS = 90_000
_ATTEMPTS = 5
_WAITS = 6000  # of 10 ms
_PATIENCE = 300
_SOURCE = f"""\
%% Written by securemqtt broker: who may enter, and do what.
-module({MODULE}).
-behaviour(rabbit_authz_backend).
-define(BY, <<"securemqtt">>).
-export([user_login_authorization/2, check_vhost_access/3, check_resource_access/4,
         check_topic_access/4, state_can_expire/0, load/1,
         note/2, forget/0, put_out_everywhere/2, put_out/2]).

user_login_authorization(Name, Properties) ->
    rabbit_auth_backend_internal:user_login_authorization(Name, Properties).

check_vhost_access(User, VHost, Context) when is_map(Context) ->
    maps:get(<<"client_id">>, Context, none) =:= element(2, User) andalso
        permission(User, VHost, <<"{EXCHANGE}">>) =/= none andalso
        rabbit_auth_backend_internal:check_vhost_access(User, VHost, Context);
check_vhost_access(_, _, _) ->
    false.

check_resource_access(User, Resource, Permission, Context) ->
    rabbit_auth_backend_internal:check_resource_access(User, Resource, Permission, Context).

check_topic_access(User, {{resource, VHost, topic, Exchange}}, Action, #{{routing_key := Key}}) ->
    case {{permission(User, VHost, Exchange), Action}} of
        {{{{permission, _, Write, _}}, write}} -> matches(Key, Write);
        {{{{permission, _, _, Read}}, read}} -> matches(Key, Read);
        _ -> false
    end.

state_can_expire() ->
    false.

permission(User, VHost, Exchange) ->
    Key = {{topic_permission_key, {{user_vhost, element(2, User), VHost}}, Exchange}},
    case mnesia:dirty_read(rabbit_topic_permission, Key) of
        [{{topic_permission, _, Permission}}] -> Permission;
        [] -> none
    end.

matches(Key, Pattern) ->
    re:run(Key, Pattern, [{{capture, none}}]) =:= match.

%% RabbitMQ has this import the definitions, once its plugins have started.
load(Options) ->
    need(file:script(proplists:get_value(program, Options)), rules_are_not_taken_up),
    {{ok, {{_, Children}}}} = rabbit_mqtt_sup:init([{{[], proplists:get_value(mqtt, Options)}}]),
    [need(supervisor2:start_child(rabbit_mqtt_sup, One), port_for_mqtt_is_not_to_be_had)
        || One <- Children, element(1, One) =/= rabbit_mqtt_retainer_sup],
    case proplists:get_value(websockets, Options) of
        [] -> ok;
        Web ->
            ok = application:stop(rabbitmq_web_mqtt),
            ok = application:set_env(rabbitmq_web_mqtt, ssl_config, Web),
            need(application:start(rabbitmq_web_mqtt), port_for_websockets_is_not_to_be_had)
    end.

%% Who loses something is noted, by all nodes, before he does: where this one ends in between,
%% others have him connected, and its next start goes on with him.
note(Everyone, Lost) ->
    case {{noted(), Everyone, Lost}} of
        {{Nobody = [false, []], false, []}} -> Nobody;
        {{[All, Others], _, _}} ->
            Noted = [Everyone orelse All, lists:usort(Lost ++ Others)],
            ok = rabbit_runtime_parameters:set_global(?MODULE, Noted, ?BY),
            Noted
    end.

noted() ->
    case rabbit_runtime_parameters:value_global(?MODULE) of
        not_found -> [false, []];
        Noted -> Noted
    end.

forget() ->
    noted() =:= [false, []] orelse (ok = rabbit_runtime_parameters:clear_global(?MODULE, ?BY)).

%% RabbitMQ's transactions are over once each node has them: whoever comes to any node by now is
%% told what holds by now. A node that ends has nobody any more.
put_out_everywhere(false, []) -> ok;
put_out_everywhere(Everyone, Lost) ->
    put_out_of(rabbit_nodes:all_running(), [Everyone, Lost], {_ATTEMPTS}).

put_out_of(Nodes, Who, Left) ->
    Said = erpc:multicall(Nodes, ?MODULE, put_out, Who, {_NODE_MS}),
    case [One || One = {{_, Answer}} <- lists:zip(Nodes, Said), Answer =/= {{ok, ok}}] of
        [] -> ok;
        Failed ->
            Gone = [Node || {{Node, {{error, {{erpc, noconnection}}}}}} <- Failed],
            Left > 0 andalso length(Gone) =:= length(Failed)
                orelse error({{still_connected, Failed}}),
            timer:sleep(1000),
            Running = rabbit_nodes:all_running(),
            put_out_of([One || One <- Gone, lists:member(One, Running)], Who, Left - 1)
    end.

%% Once a connection, its channels and the process that reads from it are no more, nobody is left
%% who could bind anything by it. That process waits for a client that takes nothing, for ever: then
%% it is killed.
put_out(Everyone, Lost) ->
    %% it is there before a port is open, and longer
    case whereis(pg_local) of
        undefined -> ok;
        _ -> put_out_here(Everyone, Lost)
    end.

put_out_here(Everyone, Lost) ->
    pg_local:sync(),
    IsOut = fun(User) -> Everyone orelse lists:member(User, Lost) end,
    Out = [One || One <- rabbit_direct:list_local(),
        case catch amqp_connection:info(One, [user]) of
            [{{user, User}}] -> IsOut(User);
            _ -> true
        end],
    Channels = [One || Out =/= [], One <- rabbit_channel:list_local(),
        case catch rabbit_channel:info(One, [connection]) of
            [{{connection, Of}}] -> lists:member(Of, Out);
            _ -> true
        end],
    Readers = [One || {{links, Links}} <- [process_info(Pid, links) || Pid <- Out],
        One <- Links, is_pid(One),
        proc_lib:translate_initial_call(One) =/= {{supervisor2, init, 1}}],
    [amqp_direct_connection:server_close(One, 320, <<"its rights have changed">>) || One <- Out],
    wait(Out ++ Channels ++ Readers, Readers, {_WAITS}).

wait([], _, _) -> ok;
wait(_, _, 0) -> error(still_connected);
wait(Pids, Readers, Left) ->
    Left =:= {_WAITS - _PATIENCE} andalso [exit(One, kill) || One <- Readers],
    timer:sleep(10),
    wait([One || One <- Pids, is_process_alive(One)], Readers, Left - 1).

need(ok, _) -> ok;
need({{ok, _}}, _) -> ok;
need(Failed, What) ->
    rabbit_log:error("~0p", [Failed]),
    throw({{error, What}}).
"""


def write_module(libraries: Path) -> None:
    """Compile the module into a directory of Erlang's libraries (ERL_LIBS). Raise FatalError."""
    compile_module(libraries, MODULE, _SOURCE)


def compile_module(libraries: Path, module: str, code: str) -> None:
    """Compile a module of ours into such a directory. Raise FatalError."""
    compiler = shutil.which("erlc")
    if compiler is None:
        raise FatalError(
            "erlc is not there, which RabbitMQ's Erlang has: apt-get install erlang-base"
        )
    beams = Path(module) / "ebin"
    make_directory(libraries / beams)
    source = f"{module}.erl"
    write_file(libraries / source, code.encode())
    # the behaviour is RabbitMQ's, and not there when this is compiled
    command = [compiler, "+nowarn_undefined_behaviour", "-o", str(beams), source]
    with explained("start erlc"):
        try:
            done = subprocess.run(
                command,
                # Of an absolute path erlc cuts off what the working directory begins with, also
                # where that is another one: /tmp/a of /tmp/ab.
                cwd=libraries,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_COMPILE_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise FatalError(f"erlc was not ready within {_COMPILE_S:.0f} s") from error
    if done.returncode:
        said = escaped(" ".join((done.stderr or done.stdout).split())[:_SAID])
        raise FatalError(
            f"erlc does not compile {libraries / source}: {said or 'it says nothing'}. Is Erlang's "
            f"package incomplete?"
        )
