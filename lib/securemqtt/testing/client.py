"""`FakeClient`: the real client, over a stand-in for the network."""

from __future__ import annotations

from os import PathLike

from .. import config
from ..client import Client
from ..connection import Connection
from ..log import log
from ..options import ClientOptions
from .fake import FakeBroker

# The top-level domain that no name of has an address (RFC 2606): in a log it says what it is.
_HOST = "fake.invalid"
_CLIENT_ID = "test-device"


class FakeClient(Client):
    """A stand-in for tests: a `Client` that is connected to nothing.

    Outbox, inbox, handlers, states, back-off and errors are the real ones; what would be TLS and a
    broker is `fake`, a few lists in this process. It takes a `Client`'s arguments and checks the
    options as that does, but reads no bundle: `client_id` is test-device unless it is given, and
    `host` is never used. For a program's own subclass of Client, put this one before it:
    `class FakeGreenhouse(FakeClient, Greenhouse)`.
    """

    fake: FakeBroker

    def _make_connection(
        self, bundle: str | PathLike[str] | None, options: ClientOptions
    ) -> Connection:
        # The host keeps `load` from looking for a bundle; what a password file is for is not here.
        stand_in = {"client_id": _CLIENT_ID, **options, "host": _HOST, "password_file": None}
        stand_in["certificate"] = ()
        settings = config.load(None, stand_in)
        self.fake = FakeBroker()
        log("warning", f"{settings.client_id} is a stand-in for tests: nothing leaves this process")
        return Connection(settings, self.fake.make_link)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.client_id}: a stand-in for tests>"

    def wait(self, seconds: float) -> None:
        """As `Client.wait`; after `fake.end_after` it takes no time, and ends the program at last.

        Raise ProgramEnded.
        """
        if self.fake.in_haste:
            self.fake.begin_wait()
            seconds = 0
        super().wait(seconds)
