"""Passwords in addresses: refused where they would be kept, masked where they would be shown."""

from __future__ import annotations

import pytest

from sweeper.core.address import refuse_password, without_password
from sweeper.core.decode import DecodeError, decode
from sweeper.core.errors import InputError
from sweeper.core.sections import Tracking


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://ann:secret@db.example:5432/sweeps", "postgresql://ann:***@db.example:5432/sweeps"),
        ("postgresql+psycopg://ann:se/cr:et@db/sweeps", "postgresql+psycopg://ann:***@db/sweeps"),
        ("postgresql://db/sweeps?user=ann&password=secret", "postgresql://db/sweeps?user=ann&password=***"),
        ("https://ann:secret@mlflow.example", "https://ann:***@mlflow.example"),
        ("--set tracking.study=postgresql://ann:secret@db/x", "--set tracking.study=postgresql://ann:***@db/x"),
    ],
)
def test_a_password_is_refused_and_not_shown(address: str, shown: str) -> None:
    assert without_password(address) == shown
    with pytest.raises(InputError, match="must not hold a password") as refused:
        refuse_password(address, where="study")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "address", ["", "sqlite:////data/mlflow.db", "http://localhost:5000", "postgresql://ann@db:5432/x?sslmode=require"]
)
def test_an_address_without_a_password_is_left_as_it_is(address: str) -> None:
    assert without_password(address) == address
    refuse_password(address, where="study")


def test_a_search_space_with_a_password_is_refused_with_the_way_to_give_it() -> None:
    with pytest.raises(DecodeError, match=r"study: must not hold a password.*PGPASSWORD"):
        decode(Tracking, {"study": "postgresql://ann:secret@db/sweeps"})
