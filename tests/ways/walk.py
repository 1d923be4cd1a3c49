"""Do what a user types or clicks, and keep what came of it."""

import contextlib
import importlib
import io
import json
import runpy
import shlex
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.prompts import (
    inputs_of_type,
    node_id_of_type,
    record_texts,
    use_separate_nodes,
    use_standin_loaders,
)
from tools.rigs.moge_file import write_moge_standin
from tools.setup.api_client import PromptRefused, read_prompt
from tools.setup.commands import MODULES
from tools.setup.server import Server

SMALLER_INPUTS = {"EgoXLoadExoVideo": {"frame_count": 5, "width": 112, "height": 64}}
RUN_TIMEOUT_S = 300.0


@dataclass
class Walk:
    """Hold a user's folder, graph and server, and the results of the last step."""

    folder: Path
    pack: Path
    server: Server | None = None
    prompt: dict[str, Any] = field(default_factory=dict)
    code: int | None = None
    said: str = ""
    outputs: dict[str, Any] = field(default_factory=dict)
    executed_types: set[str] = field(default_factory=set)
    refused_types: set[str] = field(default_factory=set)
    stopped_type: str = ""
    cpu_s: float = 0.0

    def take(self, step: str) -> None:
        """Do one step, in a user's words."""
        words = shlex.split(step)
        if words[0].startswith("python"):
            self.run_command(words[1:])
            return
        actions = {
            "open": self.open_template,
            "with": self.use_standins,
            "separate": self.separate_sampler,
            "copy": self.copy_into_input,
            "download": self.download,
            "set": self.set_input,
            "link": self.link_input,
            "insert": self.insert_node,
            "run": self.queue,
        }
        actions[words[0]](*words[1:])

    # -- a terminal

    def run_command(self, words: list[str]) -> None:
        """Run a command of the clone in this process, which has imported its packages."""
        printed = io.StringIO()
        program, *arguments = words
        argv, sys.argv = sys.argv, [program, *arguments]
        start_s = time.process_time()
        try:
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                if program == "run.py":
                    module, _ = MODULES[arguments[0]]
                    self.code = importlib.import_module(module).main(arguments[1:])
                else:
                    runpy.run_path(str(self.pack / program), run_name="__main__")
        except SystemExit as end:
            self.code = end.code if isinstance(end.code, int) else int(end.code is not None)
            printed.write("" if isinstance(end.code, int | None) else str(end.code))
        finally:
            sys.argv = argv
            self.cpu_s = time.process_time() - start_s
        self.said = printed.getvalue()

    # -- a graph

    def open_template(self, name: str, size: str = "small") -> None:
        """Open a shipped graph in its API form, made smaller unless it is wanted whole.

        tests/browser/test_workflows_in_page.py checks that the page's Run queues that form."""
        self.prompt = read_prompt(name, self.pack)
        for node in self.prompt.values() if size == "small" else ():
            node["inputs"].update(SMALLER_INPUTS.get(node["class_type"], {}))
            node["inputs"].update({"steps": 1} if "steps" in node["inputs"] else {})

    def use_standins(self, *_: str) -> None:
        self.prompt = use_standin_loaders(self.prompt)

    def separate_sampler(self) -> None:
        """Take EgoX Model Patch and ComfyUI's own sampling nodes in place of Wan EgoX Sampler."""
        self.prompt = use_separate_nodes(self.prompt)

    def copy_into_input(self, name: str, place: str) -> None:
        """Put a file into ComfyUI's input folder, as an upload does."""
        target = self.server.base.input / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.folder / name, target)

    def download(self, name: str) -> None:
        """Put a stand-in for MoGe's weights where the message says."""
        write_moge_standin(self.server.base.models / name)

    def set_input(self, node_type: str, name: str, value: str) -> None:
        with contextlib.suppress(ValueError):
            value = json.loads(value)
        self.prompt[node_id_of_type(self.prompt, node_type)]["inputs"][name] = value

    def link_input(self, node_type: str, name: str, source_type: str, values: str) -> None:
        """Add a node and link its first output to an input."""
        self.prompt["added"] = {"class_type": source_type, "inputs": json.loads(values)}
        self.prompt[node_id_of_type(self.prompt, node_type)]["inputs"][name] = ["added", 0]

    def insert_node(self, inserted_type: str, node_type: str, name: str, values: str) -> None:
        """Put a node into the link that leads to an input, which has the same name there."""
        inputs = inputs_of_type(self.prompt, node_type)
        inserted_inputs = {**json.loads(values), name: inputs[name]}
        self.prompt["inserted"] = {"class_type": inserted_type, "inputs": inserted_inputs}
        inputs[name] = ["inserted", 0]

    def queue(self) -> None:
        """Press Run, and wait for the end of what the server accepts."""
        client, texts = self.server.client, []
        self.executed_types, self.refused_types = set(), set()
        try:
            outcome = client.run(self.prompt, record_texts(texts), timeout=RUN_TIMEOUT_S)
        except PromptRefused as refusal:
            faults = refusal.answer.get("node_errors") or {}
            self.refused_types = {fault["class_type"] for fault in faults.values()}
            self.said, self.outputs = str(refusal), {}
            if "prompt_id" in refusal.answer:  # the host runs the rest
                self.outputs = self.run_rest()
            return
        if outcome.status != "success":
            self.stopped_type, self.said = outcome.error["node_type"], outcome.error_text
            return
        self.outputs = outcome.outputs
        self.executed_types = {self.prompt[node]["class_type"] for node in outcome.executed_nodes}
        shown_texts = [str(output.get("text", "")) for output in self.outputs.values()]
        self.said = "\n".join(shown_texts + texts)

    def run_rest(self) -> dict[str, Any]:
        """Queue a graph of which the server accepts a part, and wait for the end of that part."""
        prompt_id = self.server.client.post("/prompt", {"prompt": self.prompt})["prompt_id"]
        while not (entry := self.server.client.get(f"/history/{prompt_id}").get(prompt_id)):
            time.sleep(0.1)
        assert entry["status"]["status_str"] == "success", entry["status"]
        return entry["outputs"]

    def read_saved(self, name: str) -> np.ndarray:  # [T, H, W, 3]
        """Read the video that a run saved under a name."""
        paths = [
            self.server.base.output / entry["subfolder"] / entry["filename"]
            for output in self.outputs.values()
            for entry in output.get("images", [])
            if entry["filename"].startswith(f"{name}_0")
        ]
        with av.open(str(paths[0])) as container:
            return np.stack(
                [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            )
