"""Errors have codes of their own, by which they come back whole over the wire."""

from __future__ import annotations

import pytest

from steep.spec import errors
from steep.spec.errors import EXIT_INVALID, EXIT_STOPPED, Fenced, NotFound, SteepError, error_class

TREE = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, SteepError)]


@pytest.mark.parametrize("one", TREE)
def test_a_code_names_one_class(one: type[SteepError]) -> None:
    assert error_class(one.code) is one
    assert "code" in vars(one)
    assert one.__name__ in str(errors.__doc__)


def test_an_unknown_code_names_none() -> None:
    assert error_class("of_a_newer_server") is None


def test_exit_codes_come_from_the_branch() -> None:
    assert NotFound("there is no such job").exit_code == EXIT_INVALID
    assert Fenced("attempt 2 works here").exit_code == EXIT_STOPPED
