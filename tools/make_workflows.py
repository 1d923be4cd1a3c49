"""Write the shipped workflows from one description of the graph.

    python3 run.py ui            # in one terminal: the host, with the pack
    python3 tools/make_workflows.py http://127.0.0.1:8188

``egox_demo`` and ``egox_basic`` are the same graph with other loaders and text conditioning; describing it once is what
keeps them together. Widget order, socket types and defaults come from the running host's ``/object_info``, so that what
is written is what its front end would have saved.
"""

from __future__ import annotations

import json
import sys
import urllib.request
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.workflow_graph import Graph  # noqa: E402  (the path comes first: this file is run as a script)
from tools.workflow_specs import SPECS  # noqa: E402


def main() -> None:
    """Ask the host what its nodes look like, then write every workflow."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with urllib.request.urlopen(f"{sys.argv[1].rstrip('/')}/object_info", timeout=60) as response:
        object_info = json.load(response)
    for name, describe in SPECS.items():
        graph = Graph(object_info)
        describe(graph)
        # A fixed id a name: writing the same graph twice must give the same file.
        saved = graph.to_json(str(uuid.uuid5(uuid.NAMESPACE_URL, f"egox/{name}")))
        path = ROOT / "workflows" / f"{name}.json"
        path.write_text(json.dumps(saved, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
        print(f"{path.relative_to(ROOT)}: {len(saved['nodes'])} nodes, {len(saved['links'])} links")


if __name__ == "__main__":
    main()
