"""The list of the host's names that the pack relies on: complete, without leftovers, and checked at start-up."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..test_imports import HOST_MODULES

ROOT = Path(__file__).resolve().parent.parent.parent
LIST = ROOT / "nodes" / "host" / "names.py"
FORM = re.compile(r"([\w.]+)(?::([\w.]+))?(?:\(([^)]*)\)|\[(\w+)\])?")


def listed(table: str) -> list[str]:
    """The names of a table of the list, read without importing it: parameters of tests are needed before a host is."""
    for item in ast.parse(LIST.read_text(encoding="utf-8")).body:
        if isinstance(item, ast.Assign) and item.targets[0].id == table:
            names = [call.args[1] for call in ast.walk(item) if isinstance(call, ast.Call)] or [item.value]
            return list(dict.fromkeys(name for part in names for name in ast.literal_eval(part)))
    raise AssertionError(f"no {table}")


@pytest.fixture(scope="module")
def names(pack) -> types.ModuleType:
    from egox_pack.nodes.host import names

    return names


class Without:
    """A module (or what is in it) that lacks one attribute."""

    def __init__(self, thing, path: list[str]) -> None:
        self.whole, self.way = thing, path

    def __getattr__(self, name: str):
        if name != self.way[0]:
            return getattr(self.whole, name)
        if len(self.way) == 1:
            raise AttributeError(name)
        return Without(getattr(self.whole, name), self.way[1:])


def goes_with(other: str, name: str) -> bool:
    """Whether ``other`` is missing where ``name`` is left out."""
    module, attribute, _, word = FORM.fullmatch(name).groups()
    of, inside, _, _ = FORM.fullmatch(other).groups()
    return other == name or bool(not word and attribute and of == module and inside
                                 and f"{inside}.".startswith(f"{attribute}."))


def leave_out(names: types.ModuleType, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the list's own look at the host miss ``name``; the host itself stays whole."""
    module, attribute, _, word = FORM.fullmatch(name).groups()
    way = attribute.split(".") if attribute else []
    import_module, code_words = names.importlib.import_module, names.code_words
    found = import_module(module)
    if word:
        for part in way:
            found = getattr(found, part)
        monkeypatch.setattr(names, "code_words",
                            lambda thing: code_words(thing) - ({word} if thing is found else frozenset()))
        return
    without = Without(found, way)
    monkeypatch.setattr(names, "importlib", types.SimpleNamespace(
        import_module=lambda wanted: without if wanted == module else import_module(wanted)))
    monkeypatch.setattr(names, "code_words", lambda thing: code_words(thing.whole if type(thing) is Without else thing))


def test_nothing_is_missing_here(names) -> None:
    assert names.missing() == []
    said: list[str] = []
    names.say_missing(said.append)
    assert not said, "a whole host needs no words"


@pytest.mark.parametrize("name", listed("PYTHON_NAMES"))
def test_each_name_left_out_is_said(names, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """With what is lost by it, and nothing else; a class takes what is listed of it along."""
    expected = [names.Need(need.loses, tuple(other for other in need.names if goes_with(other, name)))
                for need in names.PYTHON_NAMES if any(goes_with(other, name) for other in need.names)]
    leave_out(names, monkeypatch, name)
    assert names.missing() == expected
    said: list[str] = []
    names.say_missing(said.append)
    assert len(said) == 1 and all(need.loses in said[0] for need in expected) and name in said[0]


def test_forms_of_names(names, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "egox_test_host.py").write_text(
        "class A:\n    K = 1\n    def __init__(self, b, c=2):\n        self.inside = {'key': b}\n"
        "    def f(self, x, y, z=0):\n        def g():\n            return h(keyword=x)\n        return g\n"
        "def loose(first, second): pass\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name, there in {
        "egox_test_host": True, "egox_no_such_host": False, "egox_test_host:A.K": True, "egox_test_host:A.L": False,
        "egox_test_host:A.f(x, y)": True, "egox_test_host:A.f(y)": False, "egox_test_host:A(b, c)": True,
        "egox_test_host:loose(first)": True, "egox_test_host:loose(second)": False, "egox_test_host:A[inside]": True,
        "egox_test_host:A[key]": True, "egox_test_host:A[keyword]": True, "egox_test_host:A[outside]": False,
        "egox_test_host[loose]": True, "egox_test_host:loose[inside]": False,
    }.items():
        assert names.is_there(name) is there, name
    with pytest.raises(ValueError, match="no host name"):
        names.is_there("egox_test_host:A(b")


def uses(path: Path) -> Iterator[str]:
    """Dotted host names that a file uses while it runs (not only for types)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.If)
                 and "TYPE_CHECKING" in ast.dump(node.test) for inner in ast.walk(node)}
    bound: dict[str, str] = {}
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in HOST_MODULES:
                    bound[alias.asname or alias.name.split(".")[0]] = (alias.name if alias.asname
                                                                       else alias.name.split(".")[0])
                    yield alias.name
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module.split(".")[0] in HOST_MODULES:
            for alias in node.names:
                bound[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (chain := dotted(node)) and chain.partition(".")[0] in bound:
            first, _, rest = chain.partition(".")
            yield f"{bound[first]}.{rest}"


def host_classes_called(path: Path) -> Iterator[str]:
    """Host classes of which a file makes instances, but for the schemas' own."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bound = {alias.asname or alias.name: f"{node.module}:{alias.name}" for node in ast.walk(tree)
             if isinstance(node, ast.ImportFrom) and not node.level for alias in node.names}
    bound |= {alias.asname or alias.name: alias.name for node in ast.walk(tree)
              if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not (node.args or node.keywords):
            continue
        before, _, last = dotted(node.func).rpartition(".")
        name = f"{bound.get(before, '')}:{last}" if before else bound.get(last, "")
        module, *attributes = name.split(":")
        attribute = attributes[0] if len(attributes) == 1 else ""  # of a class: a method, which has its own form
        if attribute and module.split(".")[0] in HOST_MODULES and module != "comfy_api.latest":
            if isinstance(getattr(importlib.import_module(module), attribute), type):
                yield name


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return before and f"{before}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def plain(name: str) -> str:
    module, attribute, _, _ = FORM.fullmatch(name).groups()
    return f"{module}.{attribute}" if attribute else module


def covers(name: str, use: str) -> bool:
    return name == use or name.startswith(use + ".") or use.startswith(name + ".")


def sources() -> list[Path]:
    return [path for path in sorted((ROOT / "nodes").rglob("*.py")) if path != LIST]


def test_every_name_in_use_is_listed() -> None:
    known = {plain(name) for table in ("PYTHON_NAMES", "OPTIONAL_NAMES") for name in listed(table)}
    for path in sources():
        for use in uses(path):
            assert any(covers(name, use) for name in known), f"{path.relative_to(ROOT)}: {use} is not in {LIST.name}"


def test_parameters_of_every_class_in_use_are_listed(pack) -> None:
    with_parameters = {name.partition("(")[0] for name in listed("PYTHON_NAMES") if "(" in name}
    made = {name: path.name for path in sources() for name in host_classes_called(path)}
    assert {"comfy.samplers:KSampler", "comfy.utils:ProgressBar"} <= set(made)
    for name, file in made.items():
        assert name in with_parameters, f"{file}: the arguments of {name} are not in {LIST.name}"


def test_the_walk_finds_what_is_known_to_be_there() -> None:
    assert {"comfy.lora.load_lora", "folder_paths.get_full_path", "comfy_api.latest.io.Combo.Input"} <= set(
        uses(ROOT / "nodes" / "lora.py"))


def test_no_listed_name_is_left_over() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources()).lower()
    for name in listed("PYTHON_NAMES"):
        _, attribute, _, word = FORM.fullmatch(name).groups()
        last = word or attribute.split(".")[-1]
        assert last.lower() in text, f"{name}: nothing in nodes/ uses it"


def test_what_is_lost_names_the_nodes(pack, names) -> None:
    """A name that a file of nodes imports is listed with the names of all nodes of that file."""
    for file, classes in pack.nodes.extension.NODE_FILES.items():
        shown = [node.define_schema().display_name for node in pack.nodes.extension.NODES if node.__name__ in classes]
        assert len(shown) == len(classes)
        for use in uses(ROOT / "nodes" / f"{file}.py"):
            loses = "; ".join(need.loses for need in names.PYTHON_NAMES
                              if any(covers(plain(name), use) for name in need.names))
            assert "every EgoX node" in loses or all(name in loses for name in shown), f"{file}: {use} ({shown})"


def test_page_names_are_those_of_the_scripts() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for suffix in ("js", "mjs")
                     for path in sorted((ROOT / "web" / "js").rglob(f"*.{suffix}")) if "vendor" not in path.parts)
    known = listed("PAGE_NAMES")
    for name in known:
        first, _, rest = name.partition(".")
        assert re.search(rf"\b{first}(\.|\?\.){rest}\b", text), f"{name} is used nowhere"
    in_use = {f"{first}.{rest}" for first, rest in re.findall(r"\b(app|api)\??\.(\w+)", text) if rest != "js"}
    assert in_use <= set(known)


START = """
import asyncio, logging, sys
from pathlib import Path
logging.basicConfig(stream=sys.stdout, format="%(message)s")
from tools.rigs.pack_in_process import import_host, load_root
import_host(Path(sys.argv[1]), Path(sys.argv[2]))
import importlib
for name in sys.argv[3:]:
    module, _, attribute = name.partition(":")
    *way, last = attribute.split(".")
    owner = importlib.import_module(module)
    for part in way:
        owner = getattr(owner, part)
    delattr(owner, last)
extension = asyncio.run(load_root("egox_pack").comfy_entrypoint())
asyncio.run(extension.on_load())
print("nodes:", *[node.__name__ for node in asyncio.run(extension.get_node_list())])
"""


@pytest.mark.parametrize(("name", "lost", "nodes"), [
    pytest.param("comfy_extras.nodes_model_advanced:ModelSamplingSD3", "EgoX Released Sampling, Wan EgoX Sampler",
                 {"EgoXReleasedSampling", "EgoXWanSampler"}, marks=pytest.mark.slow),
    ("comfy_api.latest:Types", "Decode Ego Half, EgoX Sweep, Labelled Video Grid, EgoX Evaluate",
     {"EgoXDecodeEgoHalf", "EgoXSweep", "EgoXLabelledGrid", "EgoXEvaluate"}),
    pytest.param("folder_paths:add_model_folder_path", "the pack's small models in the loaders' lists", set(),
                 marks=pytest.mark.slow),
])
def test_a_host_without_it_starts_and_says_so(pack, host_root: Path, tmp_path: Path, name: str, lost: str,
                                              nodes: set[str]) -> None:
    """As the host loads the pack, in a process of its own: the other nodes are there."""
    done = subprocess.run([sys.executable, "-c", START, str(host_root), str(tmp_path), name], cwd=ROOT, text=True,
                          capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    log, _, rest = done.stdout.rpartition("nodes:")
    first = log.index("lacks names that EgoX relies on")
    assert lost in log[first:] and name in log[first:]
    everything = {node for file in pack.nodes.extension.NODE_FILES.values() for node in file}
    assert set(rest.split()) == everything - nodes
    for node in nodes:  # said after the check, by the file that could not be imported
        assert log.index(node, first) > first
