"""A module in Erlang that RabbitMQ asks in place of its own rules where these are not enough.

- The client id is bound to the certificate, which RabbitMQ before 4.0 does not do: who has any
  certificate could end the connection of anybody, by claiming its client id. RabbitMQ asks who may
  enter before it ends another connection.
- A user without a topic permission may do nothing. RabbitMQ lets him do everything, and each user
  is such a one for a moment: the import writes one kind of permission after the other.
- At the start it has RabbitMQ hold what the files say, and opens MQTT's listeners only then.
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
_SOURCE = f"""\
%% Written by securemqtt broker: who may enter, and do what.
-module({MODULE}).
-behaviour(rabbit_authz_backend).
-export([user_login_authorization/2, check_vhost_access/3, check_resource_access/4,
         check_topic_access/4, state_can_expire/0, load/1]).

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

need(ok, _) -> ok;
need({{ok, _}}, _) -> ok;
need(Failed, What) ->
    rabbit_log:error("~0p", [Failed]),
    throw({{error, What}}).
"""


def write_module(libraries: Path) -> None:
    """Compile the module into a directory of Erlang's libraries (ERL_LIBS). Raise FatalError."""
    compiler = shutil.which("erlc")
    if compiler is None:
        raise FatalError(
            "erlc is not there, which RabbitMQ's Erlang has: apt-get install erlang-base"
        )
    beams = Path(MODULE) / "ebin"
    make_directory(libraries / beams)
    source = f"{MODULE}.erl"
    write_file(libraries / source, _SOURCE.encode())
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
