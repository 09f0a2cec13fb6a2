"""What is listed in pyproject.toml is imported somewhere, and what is imported is listed: nobody installs in vain or by luck."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

DISTRIBUTIONS = {  # of modules that may not be installed here, or that come with, or through, another package
    "anyio": "httpx",
    "mlflow": "mlflow-skinny",
    "opentelemetry": "opentelemetry-sdk",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter": "opentelemetry-exporter-otlp-proto-http",
    "pydantic_core": "pydantic",
    "starlette": "fastapi",
    "torch.utils.tensorboard": "tensorboard",
}
LOADED_BY_NAME = {"psycopg", "uvloop"}  # SQLAlchemy does, when a database's URL says so, and uvicorn


@pytest.fixture(scope="module")
def listed(repository: Path) -> set[str]:
    """Distributions that users may install, by their normal names."""
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra, some in extras.items() if extra != "dev" for line in some)]
    names = {normal(re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0]) for line in lines}
    return names - {"steep"}


@pytest.fixture(scope="module")
def imported(repository: Path) -> set[str]:
    """Distributions that the package imports, at the head of a file or within a function."""
    modules = {name for path in (repository / "src").rglob("*.py") for name in imports(path)}
    foreign = {name for name in modules if name.partition(".")[0] not in {*sys.stdlib_module_names, "steep"}}
    return {distribution(name) for name in foreign}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
    return found


@cache
def installed_packages() -> Mapping[str, list[str]]:
    """It looks through every installed package, which takes a second."""
    return packages_distributions()


def distribution(module: str) -> str:
    root = module.partition(".")[0]
    installed = installed_packages().get(root, [root])
    return normal(DISTRIBUTIONS.get(module) or DISTRIBUTIONS.get(root) or installed[0])


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_is_listed_is_imported(listed: set[str], imported: set[str]) -> None:
    assert listed - imported - LOADED_BY_NAME == set()


def test_what_is_imported_is_listed(listed: set[str], imported: set[str]) -> None:
    assert imported - listed == set()
