"""Whether a device may come in by a certificate that several share, at our own broker."""

from __future__ import annotations

from securemqtt_tools.broker.config import PASSWORDS, BrokerConfig
from securemqtt_tools.broker.passwords import read_hashes
from securemqtt_tools.broker.rules import Rules
from securemqtt_tools.cli import FatalError, as_called


def check_sharing(
    device_id: str, group: str, config: BrokerConfig, rules: Rules, has_password: bool
) -> list[str]:
    """Raise FatalError where a device will not come in by the certificate that a group shares;
    return what a person should know beside that.
    """
    if device_id == group:
        raise FatalError(
            f"which of the devices that share the certificate of {group} is it? Give --id ID"
        )
    if not rules.shares(device_id, group):
        raise FatalError(
            f"{device_id} does not share the certificate of {group}: a new device joins by "
            f"securemqtt ca device {device_id} --shared {group}"
        )
    if not config.passwords:
        raise FatalError(
            f"your broker asks for no passwords, so nobody comes in by the certificate that "
            f"{group} shares: run securemqtt broker init --force --passwords, with all else as "
            f"before (docs/shared-certificates.md)"
        )
    if device_id not in read_hashes(config.directory / PASSWORDS):
        raise FatalError(
            f"your broker has no password of {device_id}: make one with securemqtt broker password "
            f"{device_id} --out FILE"
        )
    if has_password:
        return []
    return [
        as_called(
            f"without --password-file {device_id} comes in only if it has its password already, "
            f"from an earlier securemqtt provision"
        )
    ]
