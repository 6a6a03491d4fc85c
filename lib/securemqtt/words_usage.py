"""Cause and remedy of mistakes in a program. See diagnose.py."""

WORDS = {
    "UsageError": (
        "a mistake in the program or in the bundle's config.json",
        "correct the value that is named",
    ),
    "InvalidTopic": (
        "a name with wildcards, or a filter with + or # in the wrong place",
        "publish to a name such as ~/temperature, subscribe to a filter such as ~/command/+ or ~/#",
    ),
    "InvalidPayload": (
        "an object that JSON does not know, or a number that is none",
        "pass bytes, str, or numbers, lists and dicts of them",
    ),
    "NotSupported": (
        "an option that this interpreter does not have",
        "leave the option out on this device, or run the program on CPython",
    ),
}
