"""Binding the client id to the certificate, which RabbitMQ before 4.0 does not do: who has any
certificate could end the connection of anybody, by claiming its client id.

RabbitMQ asks who may enter before it ends another connection, and lets a module in Erlang answer:
this one refuses any client id but the user's own name, and leaves all else to RabbitMQ.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import explained, make_directory, write_file

MODULE = "securemqtt_client_id"
_COMPILE_S = 60.0
_SOURCE = f"""\
%% Written by securemqtt broker: the client id is the name in the certificate.
-module({MODULE}).
-behaviour(rabbit_authz_backend).
-export([user_login_authorization/2, check_vhost_access/3, check_resource_access/4,
         check_topic_access/4, state_can_expire/0]).

user_login_authorization(Name, Properties) ->
    rabbit_auth_backend_internal:user_login_authorization(Name, Properties).

check_vhost_access(User, VHost, Context) when is_map(Context) ->
    maps:get(<<"client_id">>, Context, none) =:= element(2, User) andalso
        rabbit_auth_backend_internal:check_vhost_access(User, VHost, Context);
check_vhost_access(_, _, _) ->
    false.

check_resource_access(User, Resource, Permission, Context) ->
    rabbit_auth_backend_internal:check_resource_access(User, Resource, Permission, Context).

check_topic_access(User, Resource, Permission, Context) ->
    rabbit_auth_backend_internal:check_topic_access(User, Resource, Permission, Context).

state_can_expire() ->
    false.
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
    beams = libraries / module / "ebin"
    make_directory(beams)
    source = libraries / f"{module}.erl"
    write_file(source, code.encode())
    # the behaviour is RabbitMQ's, and not there when this is compiled
    command = [compiler, "+nowarn_undefined_behaviour", "-o", str(beams), str(source)]
    with explained("start erlc"):
        try:
            done = subprocess.run(
                command,
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
        raise FatalError(f"erlc does not compile {source}: is Erlang's package incomplete?")
