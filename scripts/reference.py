"""Write the reference pages that are made from the code: the job spec, its JSON schema, the command line, the API.

`python scripts/reference.py` writes them into docs/reference; tests compare them with what the code says today.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OUT = Path(__file__).resolve().parents[1] / "docs" / "reference"
MADE = "<!-- Made by scripts/reference.py; do not edit. -->\n"


def pages() -> dict[str, str]:
    """Name and content of each page."""
    from steep.cli.schema import job_schema

    schema = job_schema()
    return {
        "job.md": job_page(schema),
        "job.schema.json": json.dumps(schema, indent=1, ensure_ascii=False) + "\n",
        "cli.md": cli_page(),
        "openapi.json": json.dumps(openapi(), indent=1, ensure_ascii=False) + "\n",
    }


# ---------------------------------------------------------------------------------------------------------- job spec


def job_page(schema: dict[str, Any]) -> str:
    """Every key of a job file, part by part, in a table each."""
    parts = {"": schema, **_parts(schema)}
    lines = [MADE, "# Job spec\n"]
    lines.append(
        "A job file is YAML or TOML. Unknown keys are refused. Quantities are written as people write them: "
        "`300M tokens`, `10 min`, `1%`, `4 GB`.\n"
        "`steep spec schema` prints [the JSON schema](job.schema.json); "
        "`steep spec explain JOB.yaml` prints what a file comes to, with the reason for each value.\n"
    )
    for path, part in parts.items():
        lines.append(f"## {f'`{path}`' if path else 'Top level'}\n")
        about = part.get("description", "").split("\n")[0]
        if path and about:
            lines.append(about + "\n")
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        required = part.get("required", [])
        for key, field in part["properties"].items():
            cells = (f"`{key}`", _type(field, schema), _default(key, field, required), _meaning(field, schema))
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _parts(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The parts of the spec by the path under which a job file writes them; each once, where it is first used."""
    found: dict[str, dict[str, Any]] = {}
    seen: set[str] = set()

    def walk(part: dict[str, Any], prefix: str) -> None:
        for key, field in part["properties"].items():
            for name in dict.fromkeys(_references(field)):
                if name not in seen and "properties" in schema["$defs"][name]:
                    seen.add(name)
                    path = f"{prefix}{key}" + ("[]" if _is_list(field) else "")
                    found[path] = schema["$defs"][name]
                    walk(found[path], f"{path}.")

    walk(schema, "")
    return found


def _references(field: Any) -> Iterator[str]:
    if isinstance(field, dict):
        if "$ref" in field:
            yield field["$ref"].rsplit("/", 1)[-1]
        for value in field.values():
            yield from _references(value)
    elif isinstance(field, list):
        for value in field:
            yield from _references(value)


def _is_list(field: dict[str, Any]) -> bool:
    return field.get("type") == "array"


def _type(field: dict[str, Any], schema: dict[str, Any]) -> str:
    if "$ref" in field:
        target = schema["$defs"][field["$ref"].rsplit("/", 1)[-1]]
        if "enum" in target:
            return ", ".join(f"`{value}`" for value in target["enum"])
        return "source" if field["$ref"].endswith("/Source") else "mapping"
    if "anyOf" in field:
        kinds = dict.fromkeys(_type(each, schema) for each in field["anyOf"] if each.get("type") != "null")
        return " or ".join(kinds)
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if _is_list(field):
        items = field.get("items") or {}
        return f"list of {_type(items, schema)}" if items else "list"
    return {"string": "text", "integer": "whole number", "number": "number", "boolean": "yes or no"}.get(
        field.get("type", ""), "mapping"
    )


def _meaning(field: dict[str, Any], schema: dict[str, Any]) -> str:
    if "$ref" in field and "description" not in field:
        field = schema["$defs"][field["$ref"].rsplit("/", 1)[-1]]
    return str(field.get("description", "")).split("\n")[0]


def _default(key: str, field: dict[str, Any], required: list[str]) -> str:
    if key in required:
        return "**required**"
    default = field.get("default")
    if default is None or isinstance(default, dict):
        return ""
    return f"`{json.dumps(default, ensure_ascii=False)}`"


# --------------------------------------------------------------------------------------------------------------- API


def openapi() -> dict[str, Any]:
    """The HTTP API as an OpenAPI document; nothing is served for it."""
    from steep.server.app import routed_app

    document: dict[str, Any] = routed_app().openapi()
    return document


# ------------------------------------------------------------------------------------------------------ command line


def cli_page() -> str:
    """Every command with its arguments and options."""
    from typer.main import get_command

    from steep.cli.main import app

    root = get_command(app)
    lines = [MADE, "# Command line\n", (root.help or "") + "\n", (root.epilog or "") + "\n"]
    lines.append("`steep --install-completion` makes the shell complete commands and options.\n")
    for name, command in _commands("steep", root):
        usage = " ".join([name, *_arguments(command)])
        lines += [f"## `{name}`\n", " ".join((command.help or "").split()) + "\n", f"```\n{usage}\n```\n"]
        rows = [row for parameter in command.params if (row := _parameter(parameter))]
        if rows:
            lines += ["| | |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        yield from _commands(f"{path} {name}", child)


def _arguments(command: Any) -> list[str]:
    words = [p.metavar or p.name.upper() for p in command.params if p.param_type_name == "argument"]
    return [*words, "[OPTIONS]"]


def _parameter(parameter: Any) -> str:
    if parameter.name == "help":
        return ""
    about = " ".join((getattr(parameter, "help", None) or "").split())
    if parameter.param_type_name == "argument":
        label = parameter.metavar or parameter.name.upper()
    else:
        metavar = "" if parameter.is_flag else " " + (parameter.metavar or parameter.name.upper())
        label = ", ".join(parameter.opts) + metavar
    needed = " Required." if parameter.required and parameter.param_type_name == "option" else ""
    return f"| `{label}` | {about}{needed} |".replace("||", "| |")


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    for name, content in pages().items():
        (OUT / name).write_text(content, encoding="utf-8")
        print(f"docs/reference/{name}")
