#!/bin/sh
# Install Steep, editable and at the pinned versions, into .venv: `sh scripts/install.sh '.[dev]'`.
# The first start is quick too: imports are compiled here, whatever the environment says of writing bytecode later.
# uv installs many times quicker than pip; where it is not to be had, pip does the same.
set -eu
what="$1"

setting() { .venv/bin/python -m pip config get "global.$1" 2>/dev/null || true; }

with_uv() {
    .venv/bin/python -m pip install --quiet --disable-pip-version-check uv || return 1
    # uv does not read pip's settings; a mirror or a wheel folder that is set there shall serve here too.
    links="$(setting find-links)" && [ -z "$links" ] || export UV_FIND_LINKS="${UV_FIND_LINKS:-$links}"
    index="$(setting index-url)" && [ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"
    more="$(setting extra-index-url)" && [ -z "$more" ] || export UV_INDEX="${UV_INDEX:-$more}" UV_INDEX_STRATEGY=unsafe-best-match # as pip does
    .venv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python -c constraints.txt -e "$what"
}

with_pip() {
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e "$what"
}

echo "Installing Steep into .venv: a few minutes and up to 5.5 GB the first time; torch is most of it."
with_uv || with_pip
