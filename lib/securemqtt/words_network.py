"""Cause and remedy of what lies between device and broker.

See diagnose.py; {} is the broker's host.
"""

WORDS = {
    "NetworkError": (
        "this device has no way into the broker's network",
        "look at its own network: address, Wi-Fi, cable; from a computer beside it: ping {}",
    ),
    "NameNotResolved": (
        "the name is misspelt, no name server is reachable, or it ends in .local and this network "
        "or board has no mDNS",
        "from a computer in the same network: ping {}; if that fails too, use the broker's IP "
        "address (tools/broker.py init must know it)",
    ),
    "ConnectionRefused": (
        "the broker is not running, or it listens on another port or address",
        "on its computer: python tools/broker.py run, or sudo systemctl restart mosquitto; "
        "compare its port with the one in config.json",
    ),
    "TimedOut": (
        "the broker's computer is off, has another address, or a firewall swallows the packets",
        "ping {} from the same network; let the port through the firewall (ufw allow 8883/tcp)",
    ),
    "TimedOut.handshake": (
        "something accepts connections there but does not speak TLS, or the broker is overloaded "
        "or hangs",
        "look at the port in config.json, and at the broker's log; restart it",
    ),
    "TimedOut.connack": (
        "the broker hangs, or what listens there is no MQTT broker",
        "look at the port in config.json, and at the broker's log; restart it",
    ),
    "TimedOut.session": (
        "the network or the broker went away without a word",
        "nothing, if it passes; else look at Wi-Fi reception and at the broker",
    ),
    "ConnectionLost": (
        "the broker was stopped, or the network dropped",
        "nothing, if it passes; else look at the broker's log",
    ),
    "ConnectionLost.handshake": (
        "the broker was being started or stopped, or the network dropped",
        "nothing, if it passes; else look at the broker's log",
    ),
    "ConnectionLost.unasked": (
        "the broker refused this device, its certificate most likely; there was too little memory "
        "to ask it why",
        "look at the broker's log; or run the diagnosis alone: Client().connect(), before the "
        "program makes anything",
    ),
    "ConnectionLost.connack": (
        "the broker was stopped; or it turns away without a word who may not enter (AWS IoT does: "
        "client id or policy)",
        "look at the broker's log; check that this client id is allowed",
    ),
    "ConnectionLost.session": (
        "the broker was restarted, the network dropped, or another device connected with the same "
        "client id",
        "nothing, if it passes; if it comes back again and again, give each device an id of its "
        "own",
    ),
    "WiFiNotConnected": (
        "out of reach, access point off, or wrong name or password in /secure/wifi.json (2.4 GHz "
        "only on most boards)",
        "bring board and access point closer; correct name and password: python "
        "tools/provision.py … --wifi NAME",
    ),
    "WiFiNotConnected.password": (
        "the password in /secure/wifi.json is not this network's: capitals and blanks count; or "
        "the access point lets nobody new in",
        "run the python tools/provision.py … --wifi NAME of this board again, which asks for the "
        "password",
    ),
    "WiFiNotConnected.absent": (
        "the name in /secure/wifi.json is misspelt (capitals count), the access point is off or "
        "too far, or it has 5 GHz only",
        "name it as it is: python tools/provision.py … --wifi NAME; or bring both closer, and "
        "switch its 2.4 GHz on",
    ),
}
