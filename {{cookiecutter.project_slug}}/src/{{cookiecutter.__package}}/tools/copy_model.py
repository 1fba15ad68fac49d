"""Copy the model that serves into a folder, from which `make image` takes it."""

from __future__ import annotations

import json
from pathlib import Path

from ..base.errors import Parser
from ..model import bundle
from ..serving import served_model


def main() -> None:
    """Copy the model that serves into the folder OUTPUT."""
    parser = Parser(description=main.__doc__)
    parser.add_argument("output", type=Path)
    output = parser.parse_args().output
    model = bundle.read(served_model.locate())
    bundle.write(model, output)
    print(json.dumps({"model_version": model.version, "run_id": model.card["run_id"], "folder": str(output)}))
