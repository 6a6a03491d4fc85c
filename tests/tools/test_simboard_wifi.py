"""The board's Wi-Fi: sockets that work, that fail as on a board, and that go dead when the radio
does.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from securemqtt_tools.pki import Authority
from securemqtt_tools.simboard import SimulatedBoard
from support.boards.simboard import Line, require_libfaketime, require_micropython
from support.network.net import free_port, wait_until
from support.speed import seconds

WAIT_S = seconds(20)
CONNECT = f"""
import network, socket, time
w = network.WLAN(network.STA_IF)
w.active(True)
w.connect('any', 'thing')
while not w.isconnected(): time.sleep_ms(10)
def reach(port, host='peer.test'):
    s = socket.socket()
    s.settimeout({WAIT_S})
    s.connect(socket.getaddrinfo(host, port)[0][-1])
    return s
def fault(call):
    try:
        return call()
    except OSError as e:
        return e.errno
"""


@pytest.fixture(scope="module")
def shared_board() -> Iterator[SimulatedBoard]:
    require_micropython()
    with SimulatedBoard(hosts={"peer.test": "127.0.0.1"}) as running:
        yield running


@pytest.fixture
def line(shared_board: SimulatedBoard) -> Iterator[Line]:
    """Return a line to the raw REPL of the board, just reset, with its Wi-Fi connected and the
    helpers above.
    """
    shared_board.wifi(True)
    shared_board.reset()
    with Line(shared_board) as opened:
        opened.enter_raw_repl()
        assert opened.execute(CONNECT) == b""
        yield opened


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(WAIT_S)
        yield listening


def port_of(server: socket.socket) -> int:
    port: int = server.getsockname()[1]
    return port


def accept(server: socket.socket) -> socket.socket:
    connection, _ = server.accept()
    connection.settimeout(WAIT_S)
    return connection


def is_silent(connection: socket.socket) -> bool:
    """Return True if nothing, not even an end, comes from the other side for a while."""
    return not select.select([connection], [], [], 0.3)[0]


def run(line: Line, program: str) -> None:
    """Run a program that prints nothing, without an exception."""
    assert line.execute(program) == b""


def evaluate(line: Line, expression: str) -> str:
    return line.execute(f"print({expression})").decode().strip()


def test_without_a_connection_no_name_resolves(shared_board: SimulatedBoard, line: Line):
    run(line, "w.disconnect()")
    assert evaluate(line, "w.isconnected(), w.status() == network.STAT_IDLE") == "False True"
    assert evaluate(line, "fault(lambda: reach(1))") == "-2"


def test_an_unknown_name_is_not_found(line: Line):
    assert evaluate(line, "fault(lambda: reach(1, 'no-such-host.invalid'))") == "-2"


def test_bytes_go_both_ways(line: Line, server: socket.socket):
    run(line, f"s = reach({port_of(server)})")
    with accept(server) as far:
        run(line, "n = s.write(b'from the board' + bytes(50000))")
        received = b""
        while len(received) < 50014:
            received += far.recv(65536)
        assert received == b"from the board" + bytes(50000)
        far.sendall(b"to the board")
        assert evaluate(line, "s.read(12)") == "b'to the board'"
        far.shutdown(socket.SHUT_WR)
        assert evaluate(line, "s.read(1)") == "b''"
        run(line, "s.close()")
        assert far.recv(1) == b""


def test_a_name_can_move(shared_board: SimulatedBoard, line: Line, server: socket.socket):
    shared_board.set_hosts({"moving.test": "127.0.0.2"})
    assert evaluate(line, f"fault(lambda: reach({port_of(server)}, 'moving.test'))") == "111"
    shared_board.set_hosts({"moving.test": "127.0.0.1"})
    run(line, f"s = reach({port_of(server)}, 'moving.test')")
    accept(server).close()


def test_a_refused_connection_is_refused(line: Line):
    assert evaluate(line, f"fault(lambda: reach({free_port()}))") == "111"


def test_a_destination_that_does_not_answer_times_out(line: Line):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        # fills the queue: the kernel drops what comes after
        crowd = [socket.socket() for _ in range(3)]
        for member in crowd:
            member.setblocking(False)
            member.connect_ex(deaf.getsockname())
        run(line, "s = socket.socket(); s.settimeout(0.5)")
        port = port_of(deaf)
        assert (
            evaluate(
                line, f"fault(lambda: s.connect(socket.getaddrinfo('peer.test', {port})[0][-1]))"
            )
            == "110"
        )
        for member in crowd:
            member.close()


def test_a_reset_by_the_peer_reaches_the_board(line: Line, server: socket.socket):
    run(line, f"s = reach({port_of(server)})")
    far = accept(server)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    far.close()
    assert evaluate(line, "fault(lambda: s.read(1))") == "104"


def test_wifi_off_silences_both_sides(
    shared_board: SimulatedBoard, line: Line, server: socket.socket
):
    port = port_of(server)
    run(line, f"s = reach({port}); a = socket.getaddrinfo('peer.test', {port})[0][-1]")
    with accept(server) as far:
        shared_board.wifi(False)
        wait_until(lambda: evaluate(line, "w.isconnected()") == "False", what="the board's notice")
        run(line, "n = s.write(b'lost')")
        far.sendall(b"lost too")
        assert is_silent(far)
        run(line, "s.settimeout(0.2)")
        assert evaluate(line, "fault(lambda: s.read(1))") == "110"
        assert evaluate(line, f"fault(lambda: reach({port}))") == "-2"
        run(line, "n = socket.socket(); n.settimeout(0.3)")
        assert evaluate(line, "fault(lambda: n.connect(a))") == "110"


def test_after_wifi_is_back_old_connections_are_reset_and_new_ones_work(
    shared_board: SimulatedBoard, line: Line, server: socket.socket
):
    port = port_of(server)
    run(line, f"s = reach({port})")
    with accept(server) as far:
        shared_board.wifi(False)
        run(line, "while w.isconnected(): time.sleep_ms(10)")
        shared_board.wifi(True)
        assert evaluate(line, "w.isconnected()") == "False"
        run(line, "w.connect('any', 'thing')\nwhile not w.isconnected(): time.sleep_ms(10)")
        assert evaluate(line, "fault(lambda: s.read(1))") == "104"
        assert is_silent(far)
        far.sendall(b"are you there?")
        with pytest.raises(ConnectionResetError):
            far.recv(1)
    run(line, f"s = reach({port}); n = s.write(b'again')")
    with accept(server) as far:
        assert far.recv(5) == b"again"


def test_an_esp32_joins_again_by_itself():
    require_micropython()
    with SimulatedBoard(profile="esp32") as board, Line(board) as opened:
        opened.enter_raw_repl()
        run(opened, CONNECT)
        board.wifi(False)
        run(opened, "while w.isconnected(): time.sleep_ms(10)")
        assert evaluate(opened, "w.status() == network.STAT_BEACON_TIMEOUT == 200") == "True"
        board.wifi(True)
        run(opened, "while not w.isconnected(): time.sleep_ms(10)")
        assert evaluate(opened, "w.status() == network.STAT_GOT_IP == 1010") == "True"


def test_a_hard_reset_leaves_the_far_side_in_the_dark(
    shared_board: SimulatedBoard, line: Line, server: socket.socket
):
    run(line, f"s = reach({port_of(server)})")
    with accept(server) as far:
        shared_board.reset()
        assert is_silent(far)


def test_a_soft_reset_closes_connections_and_keeps_the_network(line: Line, server: socket.socket):
    run(line, f"s = reach({port_of(server)})")
    with accept(server) as far:
        line.send(b"\x04")
        line.expect(b"raw REPL; CTRL-B to exit\r\n>")
        assert far.recv(1) == b""
    assert evaluate(line, "__import__('network').WLAN().isconnected()") == "True"


def test_the_station_tells_wrong_credentials_apart():
    require_micropython()
    with SimulatedBoard(ssid="home", wifi_password="-secret") as board, Line(board) as opened:
        command_line = Path(f"/proc/{board.pid}/cmdline").read_bytes().split(b"\0")
        assert b"--ssid=home" in command_line
        assert not any(b"secret" in argument for argument in command_line)
        opened.enter_raw_repl()
        run(opened, "import network, time; w = network.WLAN(network.STA_IF); w.active(True)")
        assert evaluate(opened, "w.scan()[0][0]") == "b'home'"
        for arguments, state in (
            ("'house', '-secret'", "NO_AP_FOUND"),
            ("'home', '-Secret'", "WRONG_PASSWORD"),
            ("'home', '-secret'", "GOT_IP"),
        ):
            run(
                opened,
                f"w.connect({arguments})\nwhile w.status() == network.STAT_CONNECTING: "
                f"time.sleep_ms(10)",
            )
            assert evaluate(opened, f"w.status() == network.STAT_{state}") == "True"
        assert evaluate(opened, "w.ifconfig()[0] != '0.0.0.0', w.config('ssid')") == "True home"
        run(opened, "w.active(False)")
        assert evaluate(opened, "w.isconnected()") == "False"


def test_datagrams_and_the_time_server(line: Line):
    require_libfaketime()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(WAIT_S)
        port = server.getsockname()[1]

        def answer() -> None:
            question, client = server.recvfrom(100)
            assert question[0] == 0x23 and len(question) == 48
            since_1900_s = 1_800_000_000 + 2_208_988_800
            server.sendto(bytes(40) + since_1900_s.to_bytes(4, "big") + bytes(4), client)

        thread = threading.Thread(target=answer)
        thread.start()
        run(
            line,
            f"import ntptime; ntptime.host = 'peer.test'; ntptime.timeout = {WAIT_S}; "
            f"ntptime._PORT = {port}",
        )
        assert line.execute("ntptime.settime()") == b""
        thread.join()
        assert (
            evaluate(line, "time.gmtime()[:3], time.time() // 100 == 18000000")
            == "(2027, 1, 15) True"
        )


def test_tls_sees_the_board_s_own_clock(
    line: Line, server: socket.socket, authority: Authority, tmp_path: Path
):
    require_libfaketime()
    issued = authority.issue_server(["peer.test"], days=30)
    (tmp_path / "chain.pem").write_bytes(issued.chain_pem())
    (tmp_path / "key.pem").write_bytes(issued.key_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain.pem", tmp_path / "key.pem")
    anchor = authority.trust_anchors()[0].public_bytes(Encoding.DER)

    def serve() -> None:
        for _ in range(2):
            connection = accept(server)
            try:
                with context.wrap_socket(connection, server_side=True) as secured:
                    secured.sendall(b"secret word")
            except (ssl.SSLError, OSError):
                connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    run(
        line,
        f"""
import tls
def secure_word():
    c = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    c.verify_mode = tls.CERT_REQUIRED
    c.load_verify_locations({anchor!r})
    try:
        return c.wrap_socket(reach({port_of(server)}), server_hostname='peer.test').read(11)
    except ValueError as e:
        return e
""",
    )
    assert "starts in the future" in evaluate(line, "secure_word()")
    run(line, f"import machine; machine.RTC().datetime({_now()})")
    assert evaluate(line, "secure_word()") == "b'secret word'"
    thread.join()


def _now() -> tuple[int, ...]:
    now = datetime.now(timezone.utc)
    return (now.year, now.month, now.day, 0, now.hour, now.minute, now.second, 0)
