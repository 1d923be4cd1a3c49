"""Test the archive that is published to ComfyUI's registry."""

import ast
import asyncio
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.rigs.pack_in_process import load_root
from tools.setup.api_client import read_prompt
from tools.setup.base_dir import make_base_dir
from tools.setup.environment import Environment, venv_python
from tools.setup.host import find_host, run_for_error
from tools.setup.layout import REPO_ROOT, Layout
from tools.setup.server import Server

from ..shipped_files import git, list_shipped_files
from ..test_imports import imported_files

FOLDERS = {
    "egox_core",
    "locales",
    "models",
    "nodes",
    "sample",
    "subgraphs",
    "tools",
    "web",
    "workflows",
}
FILES = {
    "__init__.py",
    "train_egox.py",
    "install.py",
    "requirements.txt",
    "pyproject.toml",
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
}
MOST_BYTES = 45 * 10**6


@pytest.fixture(scope="module")
def shipped_files(repo_root) -> list[str]:
    return list_shipped_files(repo_root)


def test_archive_contains_only_needed_files(shipped_files, repo_root):
    assert {name.split("/")[0] for name in shipped_files if "/" in name} == FOLDERS
    assert {name for name in shipped_files if "/" not in name} == FILES
    assert [name for name in shipped_files if name.startswith("tools/")] == [
        "tools/convert_lora.py",
        "tools/convert_to_safetensors.py",
        "tools/merge_lora.py",
    ]
    assert all(
        name.startswith("models/demo/") for name in shipped_files if name.startswith("models/")
    )
    assert sum((repo_root / name).stat().st_size for name in shipped_files) < MOST_BYTES


def test_shipped_code_needs_no_other_file(shipped_files, repo_root):
    """Check that the archive contains every file that its code needs."""
    shipped_names = {
        *shipped_files,
        *git(repo_root, "ls-files", "-z", "-o", "--exclude-standard"),
    }  # and files about to be added
    for name in shipped_files:
        if not name.endswith(".py"):
            continue
        path = repo_root / name
        if name == "train_egox.py":
            continue  # a door: see the test below
        for target in imported_files(path):
            assert target.relative_to(repo_root).as_posix() in shipped_names, name
        if not name.startswith("nodes/"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for command in re.findall(r"python (\S+\.py)", node.value):
                    assert command in shipped_names, f"{name}:{node.lineno} tells to run {command}"


CODE = (".py", ".js", ".mjs")
WORDS = (".md", ".txt", ".json", ".toml")
RULES = {
    # python_environment_manipulation: registry-backend 245, 246 (September 2026)
    r"os\.environ|\bgetenv\b": CODE,
    # python_command_injection_risk: registry-backend 192, 223 (August, September 2026)
    r"\bsubprocess\b|os\.(?:system|popen|exec|spawn|startfile)": CODE,
    # python_network_operations, JavaScript and prose too: ComfyUI-Manager 3059, registry-backend
    # 213, 215, 246 (August, September 2026); with a blank before the bracket, whatever the case
    r"(?i)\.(?:connect|bind|listen|create_connection|send(?:all|to)?|recv(?:from|_into)?)\s*\("
    r"|socket\.socket|urllib\.request|urlopen|http\.client"
    r"|\brequests\.(?:get|post|put|delete|head)\b"
    r"|aiohttp\s*\.\s*ClientSession|gethostname|gettempdir": CODE + WORDS,
    # python_dynamic_execution, methods of that name too: registry-backend 92, 183, ComfyUI-Manager
    # 3085 (July 2026)
    r"\b(?:eval|exec)\s*\(|__import__|(?<![.\w])compile\s*\(|\bnew\s+Function\b": CODE,
    # python_bytecode_manipulation: registry-backend 180, 224 (August, September 2026)
    r"import_module|\bmarshal\b|\bctypes\b|sys\.modules|zlib\.decompress\(|b85decode": CODE,
    # windows_process_manipulation, python_sensitive_file_access: registry-backend 224
    r"kernel32|OpenProcess|\bwinreg\b|Path\([^)\n]*\)\.read_(?:bytes|text)\(": CODE,
    # code in data: the registry's standards (no date); a pickle's loads, not the word
    (
        r"(?:pickle|dill|joblib|marshal)\.loads?\b|allow_pickle\s*=\s*True|weights_only\s*=\s*False"
    ): CODE,
    # python_url_command_execution: a program's name with an option, in a text too; contains_rm_rf;
    # python_privilege_escalation: registry-backend 180, 223, 224
    (
        r"\b(?:curl|wget|ffmpeg|ffprobe|yt-dlp)\s+-|\brm\s+-rf?\b"
        r"|(?<![\w-])(?:sudo|pkexec|doas|runas)\s"
    ): CODE,
    # python_database_connections, imports_cryptography: registry-backend 229 (September 2026)
    r"\bsqlite3\b|\bimport\s+cryptography\b|\bfrom\s+(?:cryptography|Crypto)\b": CODE,
    # contains_blacklisted_url: registry-backend 217 (September 2026)
    r"raw\.githubusercontent|pastebin|ngrok|discord(?:app)?\.com|gist\.github": CODE,
    # contains_custom_url_dependency, a comment too: ComfyUI-Manager 3072 (July 2026)
    r"://|git\+": ("requirements.txt",),
    # SUSP_SVG_Onload_Onerror: both words anywhere in one file (delivr.to's rule of July 2023)
    r"(?is)svg.*on(?:load|error)|on(?:load|error).*svg": (".svg", *CODE, *WORDS),
}
"""Findings of the registry's scanner, as text, in files of these endings. Its rules are not
public: these are the hits that authors quote from its answers, looked up in November 2026. Any hit,
of whatever severity, keeps a version out of the Manager."""


def scanner_hits(name: str, text: str) -> list[str]:
    return [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match.group()[:60]}"
        for rule, endings in RULES.items()
        if name.endswith(endings)
        for match in re.finditer(rule, text)
    ]


def test_registry_scanner_finds_nothing(shipped_files, repo_root):
    endings = (".svg", *CODE, *WORDS)
    findings = [
        hit
        for name in shipped_files
        if name.endswith(endings)
        for hit in scanner_hits(name, (repo_root / name).read_text("utf-8"))
    ]
    assert findings == []


def user_texts(name: str, text: str) -> Iterator[str]:
    """Yield the texts of a shipped file that users read."""
    if name.endswith(".py"):
        syntax_tree = ast.parse(text)
        docstring_ids = {
            id(node.value) for node in ast.walk(syntax_tree) if isinstance(node, ast.Expr)
        }
        yield from (
            node.value
            for node in ast.walk(syntax_tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstring_ids
        )
    elif name.endswith((".js", ".mjs")):
        yield re.sub(r"(?m)(?<!:)//.*$|(?s:/\*.*?\*/)", "", text)
    elif name.endswith((".md", ".json")):
        yield text


def test_user_texts_name_only_shipped_files(shipped_files, repo_root):
    """Check that users' texts name no file that the archive lacks."""
    unshipped_names = set(git(repo_root, "ls-files", "-z")) - set(shipped_files)
    unshipped_folders = {name.split("/")[0] for name in unshipped_names} - {
        name.split("/")[0] for name in shipped_files
    }
    for name in shipped_files:
        if name.split("/")[0] not in {
            "nodes",
            "egox_core",
            "web",
            "workflows",
            "subgraphs",
            "locales",
        }:
            continue
        for text in user_texts(name, (repo_root / name).read_text("utf-8", errors="replace")):
            for word in re.findall(r"[\w.-]+(?:/[\w.-]+)*/?", text):
                word = word.rstrip(".")
                assert word not in unshipped_names and word != "train_egox.py", (
                    f"{name} names {word}"
                )
                assert "/" not in word or word.split("/")[0] not in unshipped_folders, (
                    f"{name} names {word}"
                )


def test_second_copy_of_the_pack_is_not_loaded(comfy_host, repo_root, monkeypatch, caplog):
    """Check that a second copy of the pack registers no nodes."""
    import nodes as host_nodes

    web_folder_by_pack = {"comfyui-egox": str(repo_root / "web" / "js")}
    monkeypatch.setattr(host_nodes, "EXTENSION_WEB_DIRS", web_folder_by_pack)
    second_copy = load_root("egox_second_copy")
    assert second_copy.NODE_CLASS_MAPPINGS == {}
    assert "egox_second_copy.nodes" not in sys.modules
    assert caplog.text.count("Two copies in custom_nodes") == 1


def test_without_opencv_the_pack_has_no_nodes_and_another_page(comfy_host, monkeypatch, caplog):
    """Check what ComfyUI gets of the pack, as a slow test does on its server."""
    monkeypatch.setitem(sys.modules, "cv2", None)
    root = load_root("egox_without_opencv")
    assert list((REPO_ROOT / root.WEB_DIRECTORY).glob("*.js"))
    extension = asyncio.run(root.comfy_entrypoint())
    asyncio.run(extension.on_load())
    assert asyncio.run(extension.get_node_list()) == []
    assert caplog.text.count("[EgoX]") == 1 and str(REPO_ROOT / "install.py") in caplog.text


@pytest.mark.slow
def test_packed_archive_passes_the_registry_and_runs_the_demo(shipped_files, repo_root, tmp_path):
    """Check what the registry's command-line tool packs, in a fresh checkout and a server."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = venv_python(tmp_path / "venv")
    if problem := run_for_error([python, "-m", "pip", "install", "--quiet", "comfy-cli"]):
        pytest.skip(f"needs comfy-cli, which can't be installed: {problem[-200:]}")
    checkout, pack_folder = tmp_path / "checkout" / "comfyui-egox", tmp_path / "egox"
    for name in git(repo_root, "ls-files", "-z", "-c", "-o", "--exclude-standard"):
        if (repo_root / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(repo_root / name, checkout / name)
    git(checkout, "init", "--quiet")
    git(checkout, "add", "--all")
    for command in ("validate", "pack"):
        completed = subprocess.run(
            [python.with_name("comfy"), "--skip-prompt", "node", command],
            cwd=checkout,
            capture_output=True,
            text=True,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"COLUMNS": "200"},
        )
        output = completed.stdout + completed.stderr
        assert completed.returncode == 0, output
        assert not re.search("(?im)^(?!.*Repository).*(warning|error)", output), output
    with zipfile.ZipFile(checkout / "node.zip") as archive:
        archive.extractall(pack_folder)
    packed_files = [path for path in pack_folder.rglob("*") if path.is_file()]
    packed_names = {path.relative_to(pack_folder).as_posix() for path in packed_files}
    assert set(shipped_files) <= packed_names, "the fast tests look at what is really packed"
    assert {name.split("/")[0] for name in packed_names} == FOLDERS | FILES
    base_dir = make_base_dir(tmp_path / "base", Layout(pack_folder))
    environment = Environment(find_host(), Path(sys.executable), Layout(pack_folder))
    with Server(environment, base_dir, tmp_path / "server.log") as server:
        prompt = read_prompt("egox_demo", pack_folder)
        for node in prompt.values():
            node["inputs"].update({"steps": 1} if "steps" in node["inputs"] else {})
        outcome = server.client.run(prompt)
        assert outcome.status == "success", outcome.error_text + server.log_tail(40)
        assert "lacks names" not in server.log.read_text("utf-8")
    assert any(path.stat().st_size > 1000 for path in base_dir.output.rglob("*.mp4"))
