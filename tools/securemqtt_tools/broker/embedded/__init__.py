"""The embedded broker: amqtt, with the admission, rules and delivery that it lacks."""
