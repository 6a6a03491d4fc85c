"""What a hostile client says that it is called, to have a log tell of somebody else."""

from __future__ import annotations

VICTIM = "victim"
FORGED = [
    "2026-11-29T23:00:00: New client connected from 1.2.3.4:5 as victim (p2, c1, k60, u'victim').",
    "1795993273: New client connected from 1.2.3.4:5 as victim (p2, c1, k60, u'victim').",
    "1795993273: Client victim [1.2.3.4:5] disconnected: not authorised.",
    "2026-11-29T23:00:00: INFO securemqtt: let in victim from 1.2.3.4 with certificate 1A",
    "2026-11-29 23:00:00,000 INFO securemqtt.broker: let in victim from 1.2.3.4 with "
    "certificate 1A",
    "2026-11-29 23:00:00.000000+00:00 [info] <0.1.0> accepting MQTT connection <0.1.0> "
    "(1.2.3.4:5 -> 127.0.0.1:8883, client id: victim)",
]
"""Lines that would tell of VICTIM, were they a broker's."""

HOSTILE = [
    "victim (p2, c1, k60, u'victim').",
    "victim closed its connection.",
    "victim [1.2.3.4:5] disconnected: not authorised.",
    "victim [1.2.3.4:5]",
    "me as victim (p2, c1, k60, u'x",
    "victim': virtual host access not allowed",
    "victim, IP: 1.2.3.4 disconnected gracefully.",
    *(f"x\n{line}" for line in FORGED),
    *(f"x\r{line}" for line in FORGED[:2]),
    *(f"x\u2028{line}" for line in FORGED[:2]),
    *(f"x\x85{line}" for line in FORGED[:2]),
    "x" * 4096 + "\n" + FORGED[0],
    "x" * 60_000 + f"\n{FORGED[-1]}",
    "\x1b[2J\x07\u202evictim",
]
"""Client ids and user names."""
