"""The certificate authority of securemqtt, on `cryptography`; its inventory is in SQLite.

ca = Authority.create(directory, passphrase=b"…")
issued = ca.issue_device("greenhouse-1")        # recorded first, then handed out, in memory only
issued.certificate_pem(), issued.key_pem()
"""

from securemqtt_tools.pki.authority import Authority
from securemqtt_tools.pki.entry import Entry
from securemqtt_tools.pki.issued import Issued
from securemqtt_tools.pki.tables import CrlRecord

__all__ = ["Authority", "CrlRecord", "Entry", "Issued"]
