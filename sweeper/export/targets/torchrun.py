"""``torchrun``: a script that trains the config with ``python -m trials``, the config inside."""

from __future__ import annotations

import yaml

from sweeper.export.draft import Draft
from sweeper.export.recipe import Recipe
from sweeper.export.targets.own import plain_config
from sweeper.export.targets.own import translate as own

_SCRIPT = """\
#!/bin/sh
set -eu
config=$(mktemp)
trap 'rm -f "$config"' EXIT
cat > "$config" <<'END_OF_CONFIG'
{config}END_OF_CONFIG
torchrun --standalone --nproc-per-node={gpus} -m trials "$config" --out {folder} "$@"
"""


def translate(recipe: Recipe) -> Draft:
    """Return a script for one machine; what is given to it goes on to ``python -m trials``, as ``--save-weights``."""
    config = yaml.safe_dump(plain_config(recipe), sort_keys=False, allow_unicode=True)
    body = _SCRIPT.format(config=config, gpus=recipe.gpus, folder=recipe.folder)
    return Draft(body=body, command="sh {file} --save-weights", notes=own(recipe).notes)
