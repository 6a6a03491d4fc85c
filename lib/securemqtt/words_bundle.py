"""Cause and remedy of what is wrong with a device's bundle. See diagnose.py; {} is the file."""

_AGAIN = (
    "provision the device again: python tools/provision.py BOARD --id ID --broker HOST "
    "(BOARD is pi for a Pi)"
)
_PEM = "it is PEM, text that begins with -----BEGIN, as a Pi takes it; a board takes DER"
_DER = "it is DER, as a board takes it; a Pi takes PEM, text that begins with -----BEGIN"

WORDS = {
    "BundleError": ("certificate or key is not fit for use here", _AGAIN),
    "BundleNotFound": (
        "this device has not been provisioned yet, or its bundle is in another place",
        "python tools/provision.py BOARD --id ID --broker HOST (BOARD: pi for a Pi); or name it: "
        "Client('DIR'), SECUREMQTT_BUNDLE=DIR",
    ),
    "FileMissing": (
        "copying it was interrupted, config.json names another file, or this user may not read it "
        "(ls -l {})",
        _AGAIN,
    ),
    "FileTruncated": (
        "copying it was interrupted, the disk or flash was full, or it was edited",
        _AGAIN,
    ),
    "FileNotPrivate": (
        "it was copied without its mode: a secret must be its owner's only",
        "chmod 600 {}, as its owner",
    ),
    "WrongEncoding": (
        "it was made for another kind of device: boards take DER, a Pi takes PEM",
        _AGAIN,
    ),
    "WrongEncoding.pem": (
        _PEM,
        "on the computer: openssl x509 -in FILE -outform DER -out FILE.der, or run python "
        "tools/provision.py",
    ),
    "WrongEncoding.pem_key": (
        _PEM,
        "on the computer: openssl pkey -in FILE -outform DER -out FILE.der, or run python "
        "tools/provision.py",
    ),
    "WrongEncoding.encrypted": (
        "the key is encrypted, and MicroPython cannot decrypt keys",
        "on the computer: openssl pkey -in FILE -outform DER -out FILE.der, or run python "
        "tools/provision.py",
    ),
    "WrongEncoding.der": (
        _DER,
        "openssl x509 -inform DER -in {} -out {}.pem, and name that file in config.json",
    ),
    "WrongEncoding.der_key": (
        _DER,
        "openssl pkey -inform DER -in {} -out {}.pem, chmod 600 {}.pem, and name that file in "
        "config.json",
    ),
    "WrongEncoding.other": (
        "it is neither a certificate nor a key, or the one was taken for the other",
        _AGAIN,
    ),
    "WrongKeyPassword": (
        "the private key is encrypted, and the password for it is missing or another",
        "pass the right one: Client(key_password=…)",
    ),
    "KeyMismatch": (
        "certificate and key come from two different runs, and only one of them was replaced",
        _AGAIN,
    ),
}
