"""The module `network` of the board: a Wi-Fi station whose access point is switched from
outside.
"""

import wire

STA_IF = 0
AP_IF = 1

_status = None
_hostname = "simulated"
_country = "XX"


def name_states(states):
    """Set the STAT_ constants, which differ between families of boards."""
    global _status
    _status = states
    for name in states:
        globals()["STAT_" + name] = states[name]


def hostname(name=None):
    global _hostname
    if name is not None:
        _hostname = name
    return _hostname


def country(code=None):
    global _country
    if code is not None:
        _country = code
    return _country


def _text(value):
    return str(value, "utf-8") if isinstance(value, (bytes, bytearray)) else value


class WLAN:
    """The station interface; the board has no access point interface of its own."""

    IF_STA = STA_IF
    IF_AP = AP_IF
    PM_NONE = 0
    PM_PERFORMANCE = 1
    PM_POWERSAVE = 2
    SEC_OPEN = 0
    SEC_WPA_WPA2 = 4

    def __init__(self, interface=STA_IF):
        if interface != STA_IF:
            raise ValueError("the simulated board is a station only")

    def active(self, on=None):
        if on is not None:
            wire.ask("wifi_active", bool(on))
        return wire.ask("wifi_state")["active"]

    def connect(self, ssid=None, key=None, *, bssid=None, security=None):
        if not self.active():
            raise OSError(
                "Wifi Internal Error" if "BEACON_TIMEOUT" in _status else "STA must be active"
            )
        wire.ask("wifi_join", _text(ssid), _text(key))

    def disconnect(self):
        wire.ask("wifi_leave")

    def isconnected(self):
        return wire.ask("wifi_state")["state"] == "GOT_IP"

    def status(self, what=None):
        state = wire.ask("wifi_state")
        if what is None:
            return _status[state["state"]]
        if what == "rssi":
            return state["rssi"]
        raise ValueError("unknown status param")

    def scan(self):
        """List what can be heard: ssid, bssid, channel, RSSI, security, hidden."""
        return [
            (ssid.encode(), b"\x02\x00\x00\x00\x00\x01", 6, rssi, 3, 0)
            for ssid, rssi in wire.ask("wifi_scan")
        ]

    def ifconfig(self, *_):
        address = wire.ask("wifi_state")["address"]
        return (address, "255.255.255.0", "192.0.2.1", "192.0.2.1")

    def ipconfig(self, what):
        if what == "addr4":
            return self.ifconfig()[:2]
        if what == "gw4":
            return self.ifconfig()[2]
        raise ValueError("unknown config param")

    def config(self, *names, **values):
        if "hostname" in values:
            hostname(values["hostname"])
        if not names:
            return None
        state = wire.ask("wifi_state")
        answers = {
            "mac": b"\x02\x00\x00\x00\x00\x02",
            "ssid": state["ssid"],
            "essid": state["ssid"],
            "hostname": _hostname,
            "dhcp_hostname": _hostname,
            "channel": 6,
            "pm": self.PM_PERFORMANCE,
            "txpower": 20,
        }
        if names[0] not in answers:
            raise ValueError("unknown config param")
        return answers[names[0]]


def ipconfig(what):
    if what == "dns":
        return "192.0.2.1"
    raise ValueError("unknown config param")
