"""Install OpenCV into ComfyUI's Python if it has none, and leave one that is there alone.

ComfyUI-Manager runs this file after requirements.txt, which can't name OpenCV: its four packages
share the folder ``cv2``, so a second one replaces the files of the first, and other packs lose
``cv2.ximgproc`` or get another major version of cv2 and numpy.

It needs the standard library alone and always ends with 0, because the pack says at start what is
missing. It calls pip as pip's own command does: the registry flags a pack that starts processes.
"""

import re
import sys
from importlib import metadata
from importlib.util import find_spec

OLDEST = (4, 8)
MISSING = "opencv-contrib-python-headless"
"""Package for a Python without OpenCV: it has everything that other packs may want of cv2."""
PACKAGES = ("opencv-contrib-python", MISSING, "opencv-python", "opencv-python-headless")


def read_version(text: str) -> tuple[int, ...]:
    """Read major and minor of a version."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


def installed_version(package: str) -> str:
    """Return the version of an installed package, or ""."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def find_fault() -> str:
    """Say why OpenCV can't be used, or return "".

    An old version isn't imported, since Windows couldn't replace its files afterwards.
    """
    versions = [installed for name in PACKAGES if (installed := installed_version(name))]
    if versions and max(map(read_version, versions)) < OLDEST:
        return f"{max(versions, key=read_version)} is older than 4.8"
    try:
        import cv2

        is_old = read_version(cv2.__version__) < OLDEST
        return f"{cv2.__version__} is older than 4.8" if is_old else ""
    except Exception as error:  # a broken one answers in any way
        return str(error) or type(error).__name__


def list_requirements() -> list[str]:
    """List what to install: OpenCV of the major that is there, and the numpy that is there."""
    installed = {name: installed_version(name) for name in PACKAGES}
    old = [name for name, text in installed.items() if text and read_version(text) < OLDEST]
    texts = [text for text in installed.values() if text]
    same_major = f",=={read_version(max(texts, key=read_version))[0]}.*" if texts else ""
    numpy_version = installed_version("numpy")
    return [
        f"{old[0] if old else MISSING}>=4.8{same_major}",
        *([f"numpy=={numpy_version.partition('+')[0]}"] if numpy_version else []),
    ]


def run_pip(requirements: list[str]) -> bool:
    """Run pip in this process, and say whether it succeeded."""
    from pip._internal.cli.main import main

    try:
        return main(["install", "--disable-pip-version-check", *requirements]) == 0
    except SystemExit as end:
        return not end.code
    except Exception as error:
        print(f"[EgoX] pip failed: {error}")
        return False


def install() -> None:
    """Install OpenCV if it is missing, broken or too old."""
    fault = find_fault()
    if not fault:
        print("[EgoX] OpenCV is there, nothing to install.")
        return
    print(f"[EgoX] OpenCV: {fault}")
    requirements = list_requirements()
    has_pip = find_spec("pip") is not None
    if has_pip and run_pip(requirements):
        print("[EgoX] OpenCV is installed. Restart ComfyUI.")
        return
    words = " ".join(f'"{requirement}"' for requirement in requirements)
    python = f'"{sys.executable}"'
    pip = f"{python} -m pip install" if has_pip else f"uv pip install --python {python}"
    print(f"[EgoX] OpenCV isn't installed. Run {pip} {words}, then restart ComfyUI.")


if __name__ == "__main__":
    install()
