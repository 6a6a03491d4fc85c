"""The broker: Mosquitto configured for mutual TLS, or an embedded one with the same rules.

BrokerConfig.create(directory, authority, names=["mqtt.local"])
with BrokerProcess(directory) as broker:
    broker.port
"""

from securemqtt_tools.broker.config import BrokerConfig, Limits
from securemqtt_tools.broker.process import BrokerProcess

__all__ = ["BrokerConfig", "BrokerProcess", "Limits"]
