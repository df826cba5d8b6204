"""Addresses of servers and databases, and the passwords that they must not carry."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from sweeper.core.errors import InputError

_USER: Final = re.compile(r"(://[^:/@\s]*:)[^@\s]*@")
_QUERY: Final = re.compile(r"([?&][^=&\s]*(?:password|secret|token)[^=&\s]*=)[^&\s]*", re.IGNORECASE)
_MEND: Final = {
    "postgresql": "set PGPASSWORD, or name a file in PGPASSFILE",
    "mysql": "name an option file in the address: ?read_default_file=PATH",
    "http": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
}


def without_password(text: str) -> str:
    """Return ``text`` with ``***`` in place of every password of an address in it."""
    return _QUERY.sub(r"\1***", _USER.sub(r"\1***@", text))


def refuse_password(address: str, *, where: str) -> None:
    """Raise InputError where an address holds a password: it would be kept in files, and shown."""
    shown = without_password(address)
    if shown != address:
        scheme = urlsplit(shown).scheme.partition("+")[0].removesuffix("s")
        mend = _MEND.get(scheme, "give it by the environment")
        raise InputError("must not hold a password", where=where, got=shown, mend=mend)
