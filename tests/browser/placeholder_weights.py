"""Empty files under the names of the real weights, so that the page's menus hold what the workflows
choose.

Nothing reads them: these tests load graphs, and run only those whose stand-ins are real.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.flat_graph import all_nodes
from tests.paths import ROOT

PACK_MODELS = ROOT / "models"
FOLDERS = {"EgoXLoadLora": "loras"}


def place_weights(models: Path, workflows: Iterable[dict[str, Any]]) -> None:
    """Write one empty file for each model that a workflow names and the pack does not bring."""
    brought = {path.name for path in PACK_MODELS.rglob("*.safetensors")}
    for saved in workflows:
        for node in all_nodes(saved):
            named = [
                (m["directory"], m["name"])
                for m in (node.get("properties") or {}).get("models", [])
            ]
            if node["type"] in FOLDERS:
                named.append((FOLDERS[node["type"]], node["widgets_values"][0]))
            for folder, name in named:
                path = models / folder / name
                if name not in brought and not name.startswith("egox_demo") and not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.touch()
