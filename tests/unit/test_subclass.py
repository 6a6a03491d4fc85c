"""A program's own subclass of Client, and attributes that are called like builtins: the same on
CPython and on a board.
"""

from securemqtt import Client
from support.models.history import History


class Recorder(Client):
    """A user's client: it calls `super()`, and keeps what it likes under any name."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)
        self.all = {}
        self.list = ["a"]
        self.range = self.any = self.NameError = 0

    def publish(self, topic: str, payload: object, *how: object, **options: object) -> object:
        self.all[topic] = payload
        return super().publish(topic, payload, *how, **options)

    def subscribe(self, topic_filter: str, handler: object, qos: int = 1) -> None:
        self.list.append(topic_filter)
        super().subscribe(topic_filter, handler, qos)

    def disconnect(self, timeout_s: float = 10) -> None:
        self.range += 1
        super().disconnect(timeout_s)


def test_a_subclass_may_call_super_and_have_attributes_of_any_name() -> None:
    with History(1, client=Recorder) as history:
        client = history.client
        history.come_to_rest()
        history.filters.add("own/+")
        client.subscribe("own/+", print)
        published = len(history.deliveries)
        history.publish(30, 1, 0)
        history.come_to_rest()
        assert len(client.all) > 0 and len(history.deliveries) > published
        assert client.list[0] == "a" and client.list[-1] == "own/+"
        client.disconnect(0)
        assert (client.range, client.any, client.NameError) == (1, 0, 0)
        assert client.state == "closed"


def test_what_a_client_has_can_be_seen() -> None:
    for name in ("connect", "disconnect", "publish", "subscribe", "wait", "stats"):
        assert hasattr(Client, name)
        assert name in dir(Client)
    assert Client.__name__ == "Client"


def test_a_misspelt_method_is_named_as_it_was_written() -> None:
    try:
        Client.publsh  # noqa: B018
    except AttributeError as error:
        assert "publsh" in str(error) and "Client" in str(error)
    else:
        raise AssertionError("there is no such method")
