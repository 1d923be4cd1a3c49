"""Create empty weight files, so that the page's menus list them.

Nothing reads them: these tests load graphs, and run only those whose stand-ins are real.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.flat_graph import all_nodes
from tests.paths import ROOT

PACK_MODELS = ROOT / "models"
LOADER_FOLDERS = {"EgoXLoadLora": "loras"}


def place_weights(models: Path, workflows: Iterable[dict[str, Any]]) -> None:
    """Create an empty file for each model that a workflow names."""
    shipped_names = {path.name for path in PACK_MODELS.rglob("*.safetensors")}
    for saved_graph in workflows:
        for node in all_nodes(saved_graph):
            model_files = [
                (model_entry["directory"], model_entry["name"])
                for model_entry in (node.get("properties") or {}).get("models", [])
            ]
            if node["type"] in LOADER_FOLDERS:
                model_files.append((LOADER_FOLDERS[node["type"]], node["widgets_values"][0]))
            for folder, name in model_files:
                path = models / folder / name
                if (
                    name not in shipped_names
                    and not name.startswith("egox_demo")
                    and not path.exists()
                ):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.touch()
