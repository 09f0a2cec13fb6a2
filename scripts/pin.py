"""Print exact pins of everything that the project needs, as installed here: `python scripts/pin.py > constraints.txt`."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = "steep"
LEFT_TO_TORCH = ("triton",)  # each CUDA build of torch pins its own


def reachable(root: str) -> dict[str, str]:
    """Name and version of each installed distribution that `root` needs, with all of its extras."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    extras = distribution(root).metadata.get_all("Provides-Extra") or []
    pending = [(root, extra) for extra in ("", *extras)]
    while pending:
        name, extra = pending.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            continue  # needed on another platform only, or an extra that is not installed here
        found[canonicalize_name(name)] = Version(installed.version).public  # `2.13.0+cpu` is 2.13.0 everywhere else
        for line in installed.requires or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                pending += [(canonicalize_name(needed.name), each) for each in ("", *needed.extras)]
    return found


if __name__ == "__main__":
    pins = reachable(ROOT)
    for name in (ROOT, *LEFT_TO_TORCH):
        pins.pop(name, None)
    print("# Made by scripts/pin.py from an environment in which the tests pass.")
    for name, version in sorted(pins.items()):
        print(f"{name}=={version}")
