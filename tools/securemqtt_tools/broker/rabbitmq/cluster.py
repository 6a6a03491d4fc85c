"""RabbitMQ's nodes as one broker: how they find each other, and how they speak, TLS alone.

A node that is new joins one that runs; only the first of the list begins a cluster, so that two
never begin two. So the others wait for it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from securemqtt_tools.broker.nodes import Cluster
from securemqtt_tools.broker.rabbitmq.client_id import compile_module
from securemqtt_tools.broker.rabbitmq.membership import DIRECTORY, NODE, TRUST
from securemqtt_tools.broker.rabbitmq.settings import MQTT, RABBIT, erlang_string
from securemqtt_tools.cli import FatalError
from securemqtt_tools.pki.files import explained, write_file

MODULE = "securemqtt_cluster"
# In Erlang, as a new start goes on.
AWAIT_FIRST = f"ok = {MODULE}:await_first()"
# For the other nodes a new one waits so long, and one that comes back half of that (RabbitMQ's
# own ten times 30 s).
WAIT_S = 600.0
# Where no node serves yet, for the first one alone: rules may have changed while all were down.
FIRST_S = 120
ENDS_WITH_A_NODE = (
    "the nodes of a RabbitMQ share users, rules and kept sessions; what ends with a node is: its "
    "retained messages, sessions that are not kept, wills of the devices that it had"
)
_TLS = "tls.config"
# Erlang's own 7 s are short for TLS on a small computer that has other things to do.
_HANDSHAKE_S = 30
_SOURCE = f"""\
%% Written by securemqtt broker: a new node joins one that runs, and only the first begins alone.
-module({MODULE}).
-behaviour(rabbit_peer_discovery_backend).
-export([list_nodes/0, supports_registration/0, register/0, unregister/0, post_registration/0,
         lock/1, unlock/1, await_first/0]).

list_nodes() ->
    case {{running(), is_first()}} of
        {{[], false}} -> {{error, "no other node runs"}};
        {{Running, _}} -> {{ok, {{Running, disc}}}}
    end.

%% One after the other: two that join at once spoil each other's tables.
lock(_) ->
    {{_, Wait_s}} = settings(),
    Nodes = [node() | awaited(Wait_s)],
    Id = {{?MODULE, self()}},
    true = global:set_lock(Id, Nodes),
    {{ok, {{Id, Nodes}}}}.

unlock({{Id, Nodes}}) ->
    global:del_lock(Id, Nodes),
    ok.

awaited(Left_s) ->
    case {{running(), is_first()}} of
        {{[], false}} when Left_s =< 0 ->
            rabbit_log:error("Error: no other node runs: ~p", [others()]),
            exit(no_other_node);
        {{[], false}} -> timer:sleep(1000), awaited(Left_s - 1);
        {{Running, _}} -> Running
    end.

%% Rules may have changed while all were down, which the first node alone knows. So it is waited for
%% while it starts, and for a while where it does not yet, unless another node serves already.
await_first() ->
    {{[First | _], Wait_s}} = settings(),
    await_first(First, now_s(), Wait_s, is_not_told).

await_first(First, Since_s, Wait_s, Told) ->
    Waited_s = now_s() - Since_s,
    case {{says(First, is_running), says(First, is_booting)}} of
        {{true, _}} -> ok;
        {{_, true}} when Waited_s < Wait_s ->
            timer:sleep(100),
            await_first(First, Since_s, Wait_s, Told);
        _ ->
            case running() of
                [] when Waited_s < {FIRST_S} ->
                    Told =:= is_told orelse rabbit_log:notice("no node serves yet: waiting for the "
                        "first, ~s, at most {FIRST_S} s", [First]),
                    timer:sleep(500),
                    await_first(First, Since_s, Wait_s, is_told);
                [] ->
                    rabbit_log:warning("Warning: the first node, ~s, has not come: this one opens "
                        "with the users and rules that were taken up last", [First]);
                _ -> ok
            end
    end.

now_s() -> erlang:monotonic_time(second).

says(Node, What) -> rpc:call(Node, rabbit, What, [], 5000) =:= true.

running() -> [Node || Node <- others(), says(Node, is_running)].

others() -> element(1, settings()) -- [node()].

is_first() -> hd(element(1, settings())) =:= node().

settings() ->
    {{ok, Settings}} = application:get_env(rabbit, {MODULE}),
    Settings.

supports_registration() -> false.

register() -> ok.

unregister() -> ok.

post_registration() -> ok.
"""


def node_name(name: str) -> str:
    """Return what Erlang calls a node."""
    return f"rabbit@{name}"


def write_cluster(here: Path) -> None:
    """Write what a node has beside a single one, in its directory of RabbitMQ's. Raise
    FatalError.
    """
    compile_module(here / "erlang", MODULE, _SOURCE)
    sides = ", ".join(f"{{{side}, [{_tls(here)}]}}" for side in ("server", "client"))
    write_file(here / DIRECTORY / _TLS, f"[{sides}].\n".encode())


def cluster_environment(cluster: Cluster, bind: str, directory: Path) -> dict[str, str]:
    """Return what differs from the environment of a single node. It is to be started in `directory`
    (the path of a file must not have a blank in it).
    """
    tls = (
        f"-proto_dist inet_tls -ssl_dist_optfile {directory / DIRECTORY / _TLS} "
        f"-kernel net_setuptime {_HANDSHAKE_S}"
    )
    port = f"-erl_epmd_port {cluster.port}"
    where = bind or cluster.address
    interface = (
        f" -kernel inet_dist_use_interface {{{where.replace('.', ',')}}}" if "." in where else ""
    )
    name = node_name(cluster.node)
    return {
        "RABBITMQ_NODENAME": name,
        "RABBITMQ_USE_LONGNAME": "true",
        "RABBITMQ_DIST_PORT": str(cluster.port),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-pa {_ssl()} {tls} -name {name} {port}{interface}",
        "RABBITMQ_CTL_ERL_ARGS": f"{tls} {port} -dist_listen false",
    }


def cluster_settings(cluster: Cluster) -> dict[str, str]:
    """Return what a node's advanced.config has more, by application.

    A node that sees less than half of the others stops until it sees them again, and a kept
    session's messages are on most nodes before they are acknowledged.
    """
    nodes = ", ".join(f"'{node_name(one)}'" for one in cluster.nodes)
    # as good as for ever: it would begin a cluster of its own after that
    retries = "{discovery_retry_limit, 1000000}, {discovery_retry_interval, 1000}"
    return {
        RABBIT: f"""
   {{cluster_partition_handling, pause_minority}},
   {{{MODULE}, {{[{nodes}], {WAIT_S:.0f}}}}},
   {{cluster_formation, [{{peer_discovery_backend, {MODULE}}}, {retries}]}},""",
        MQTT: "\n   {durable_queue_type, quorum},",
    }


def _tls(here: Path) -> str:
    trust, node = here / DIRECTORY / TRUST, here / DIRECTORY / NODE
    return (
        f"{{cacertfile, {erlang_string(str(trust))}}}, {{certfile, {erlang_string(str(node))}}}, "
        f"{{keyfile, {erlang_string(str(node))}}}, {{verify, verify_peer}}, "
        f"{{fail_if_no_peer_cert, true}}, {{versions, ['tlsv1.3', 'tlsv1.2']}}, "
        f"{{secure_renegotiate, true}}"
    )


def _ssl() -> str:
    """Return where Erlang has its TLS, which it needs before it looks for what it needs."""
    program = "io:put_chars(filename:join(code:lib_dir(ssl), ebin)), halt()."
    command = ["erl", "-noinput", "-boot", "start_clean", "-eval", program]
    with explained("start erl"):
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise FatalError("erl was not ready within 60 s") from error
    if done.returncode or " " in done.stdout or not done.stdout.startswith("/"):
        raise FatalError("Erlang does not tell where its TLS is: apt-get install erlang-ssl")
    return done.stdout
