"""A user's program: a subclass of Client that calls `super()`, with attributes of any name."""

from securemqtt import Client, log_to


class Greenhouse(Client):
    """Keeps what it published and what it was told, under names that builtins have, too."""

    def __init__(self, plants, **options):
        super().__init__(**options)
        self.list = list(plants)
        self.all = {}
        self.any = self.range = 0
        self.NameError = None

    def publish(self, topic, payload, **options):
        self.all[topic] = payload
        return super().publish(topic, payload, **options)

    def subscribe(self, topic_filter, handler, qos=1):
        self.list.append(topic_filter)
        super().subscribe(topic_filter, handler, qos)

    def disconnect(self, timeout_s=10):
        self.range += 1
        super().disconnect(timeout_s)

    def on_command(self, message):
        self.any += 1
        self.NameError = message.topic.split("/")[-1]
        print("command", self.NameError, message.json(), message.qos)
        self.publish("~/answer/" + self.NameError, message.json())


log_to(lambda level, text: None)
client = Greenhouse(["fern"], keep_alive_s=30)
client.subscribe("~/command/+", client.on_command)
with client:
    print("connected", client.connected)
    first = client.publish("~/ready", {"plants": client.list}, qos=1)
    while client.NameError != "end":
        client.wait(1)
    print("flushed", client.flush(10), first.acknowledged)
print("state", client.state, "left in order", client.range)
print("told", client.any, "of", client.list)
print("published", sorted(client.all))
print("still builtins", list(range(2)), all([True]), any([0]), NameError.__name__)
try:
    client.publsh("~/ready", 1)
except AttributeError as error:
    print("publsh" in str(error), "Greenhouse" in str(error))
