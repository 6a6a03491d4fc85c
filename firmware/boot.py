"""Runs before main.py at every start of a board: gives it its own name in the network.

Wi-Fi and clock are the library's work.
"""

import json

try:
    import network

    with open("/secure/config.json") as file:
        client_id = json.load(file)["client_id"]
    # what the router shows; DHCP allows no underscore
    network.hostname(client_id.replace("_", "-")[:32])
except (ImportError, OSError, ValueError, KeyError) as error:
    print("boot.py: this board keeps its usual name in the network:", repr(error))
