"""RabbitMQ as the broker: its MQTT plugin under our rules."""
