"""Write the API form of each shipped workflow (``workflows/api``), as the page exports it.

python3 run.py make workflows

For whoever has changed a graph in the page, or a node that shipped graphs have: the demo, benches
and tests queue these files without a page.
"""

import tempfile
from pathlib import Path

from egox_core.safe_files import write_json
from tools.rigs.comfy_page import ComfyPage, open_browser, read_workflow, shipped_workflows
from tools.setup.api_client import prompt_file
from tools.setup.base_dir import make_base_dir
from tools.setup.browser import find_browser, install_advice
from tools.setup.environment import this_environment
from tools.setup.layout import REPO_ROOT, Layout, SetupError
from tools.setup.server import Server

PAGE_WIDGETS = ("video-preview", "egox_preview")
"""Widgets that the page adds and sends, but the server ignores."""


def main() -> int:
    layout, browser_file = Layout(), find_browser()
    environment = this_environment(layout)
    if environment is None:
        raise SetupError("There is no ComfyUI here: run `python3 run.py demo` once.")
    if browser_file is None:
        raise SetupError(f"The page that exports them needs a browser: {install_advice()}.")
    with tempfile.TemporaryDirectory() as folder, open_browser(browser_file) as pages:
        base = make_base_dir(Path(folder), layout)
        with Server(environment, base, Path(folder) / "server.log") as server:
            page = ComfyPage(pages, server.client).open()
            for name, file in shipped_workflows(REPO_ROOT).items():
                page.load(read_workflow(file))
                prompt = page.to_prompt()
                for node in prompt.values():
                    inputs = node["inputs"]
                    for widget in PAGE_WIDGETS:
                        inputs.pop(widget, None)
                    if prefix := inputs.get("filename_prefix"):
                        # The page writes λ_g and seed behind it, which a later run may change.
                        inputs["filename_prefix"] = prefix.partition("_lambda")[0]
                    if "viewport_state" in inputs:
                        # NaN until the viewer has shown something. ComfyUI 0.26 reads the camera.
                        inputs["viewport_state"] = {"camera_info": None}
                write_json(prompt_file(name), prompt)
                print(prompt_file(name).relative_to(REPO_ROOT).as_posix())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
