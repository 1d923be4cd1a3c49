"""List the ways that users go: what they begin with, type or click, and must have at the end.

A step is what is typed in a clone (``python3 run.py …``, ``python train_egox.py …``), or done with
a graph: ``open`` a shipped one, ``set`` an input of the only node of a type, ``copy`` a file into
ComfyUI's input folder, ``download`` MoGe's weights (a stand-in), ``with stand-ins`` of the other
weights, ``run`` it. Graphs are made smaller (5 frames, 64 px, one step) unless opened ``whole``,
commands draw at most 10 frames. Whatever a page, a graph's note or a message tells one to do
belongs here.
"""

import re
from dataclasses import dataclass

import pytest

from .ends import (
    End,
    ends_with,
    files,
    leaves_out,
    names_no_path,
    refuses,
    runs,
    runs_nothing,
    saves,
    says,
    says_nothing_of,
    shows,
    spends,
    stops,
    video,
)
from .starts import STARTS
from .walk import Walk

SAMPLE, AUTHORS, TRACKED = "sample", "authors' take", "tracked take"
OWN, NOTHING = "own files", "nothing"
MOGE_FILE = "geometry_estimation/moge_2_vits_normal.pt"
SMALL = "--frames 9 --size 64"
LOADERS = ("UNETLoader", "VAELoader", "CLIPLoader", "CLIPVisionLoader", "EgoXLoadLora")
SEPARATE_NODES = (
    "separate",
    "set EgoXLoadExoVideo frame_count 1",
    "set EgoXReleasedSampling steps 4",
    "set EgoXModelPatch recompute_exo 2",
)
SLG = (
    '{"double_layers": "0", "single_layers": "", "scale": 3, "start_percent": 0, '
    '"end_percent": 1, "rescaling_scale": 0}'
)
EASY_CACHE = '{"reuse_threshold": 3, "start_percent": 0, "end_percent": 1, "verbose": false}'
OWN_VIDEO = (
    "copy own.mp4 way/own.mp4",
    "copy path.json way/path.json",
    "set EgoXLoadExoVideo file way/own.mp4",
    "set EgoXEgoPoseInput source file",
    "set EgoXEgoPoseInput file way/path.json",
)


@dataclass(frozen=True)
class Way:
    """Hold one way: its name, what lies there at the beginning, its steps and its ends."""

    name: str
    start: str
    steps: tuple[str, ...]
    ends: tuple[End, ...]
    is_slow: bool = False

    @property
    def needs_server(self) -> bool:
        return any(step.split()[0] == "open" for step in self.steps)

    def walk_to_end(self, walk: Walk) -> None:
        """Lay out its files, take its steps and check its ends."""
        STARTS[self.start](walk.folder)
        for step in self.steps:
            assert not walk.code, f"before {step!r}: {walk.said[-2000:]}"
            walk.take(step)
        if all(end.kind != "stops" for end in self.ends):
            assert not walk.stopped_type, walk.said
        for end in self.ends:
            end.check(walk)

    @property
    def archive_alone(self) -> bool:
        """True if its commands are those of the Registry's archive, not of a clone."""
        return self.name.startswith("archive")


WAYS = (
    # -- commands on what ships
    Way(
        "facts of a shipped take",
        SAMPLE,
        ("python3 run.py facts sample/calm_room",),
        (ends_with(0), says("ego.axes", "depth.unit")),
    ),
    Way(
        "facts of a folder of takes",
        SAMPLE,
        ("python train_egox.py facts --root sample",),
        (ends_with(0), says("calm_room", "synthetic_room")),
    ),
    Way(
        "prior of a shipped take",
        SAMPLE,
        ("python3 run.py prior --take sample/calm_room --out output/prior --ply",),
        (
            ends_with(0),
            video("output/prior/prior.mp4", 9, 256, 256),
            files("output/prior/scene.ply", 1),
        ),
    ),
    Way(
        "preview of a shipped take",
        SAMPLE,
        ("python3 run.py preview --take sample/calm_room --out output/preview",),
        (
            ends_with(0),
            video("output/preview/preview.mp4", 9, 256, 256),
            files("output/preview/film.mp4", 1),
        ),
    ),
    Way(
        "inspect of the small model's LoRA",
        SAMPLE,
        ("python train_egox.py inspect models/demo/loras/egox_demo_lora.safetensors",),
        (ends_with(0), says("rank")),
    ),
    Way(
        "prior of more frames than a shipped take has",
        SAMPLE,
        ("python3 run.py prior --take sample/calm_room --frames 49 --out out",),
        (ends_with(1), says("use --frames 9"), files("out", 0)),
    ),
    Way(
        "README's sample in Python",
        NOTHING,
        ("python docs/examples/model_inputs.py",),
        (ends_with(None), says("prior (9, 256, 256, 3)", "input of the model (1, 36,")),
    ),
    Way(
        "preview with a gain that is no number is refused before anything is drawn",
        SAMPLE,
        ("python3 run.py preview --take sample/calm_room --frames 9 --gain nan --out out",),
        (ends_with(1), says("gain"), says_nothing_of("render"), files("out", 0)),
    ),
    # -- commands on a take as the authors' are: ten frames, nine poses
    Way(
        "facts of the authors' take",
        AUTHORS,
        ("python3 run.py facts takes/covid",),
        (ends_with(0), says("ego.axes")),
    ),
    Way(
        "prior of the authors' take",
        AUTHORS,
        (f"python3 run.py prior --take takes/covid {SMALL} --out out",),
        (ends_with(0), video("out/prior.mp4", 9, 64, 64)),
    ),
    Way(
        "preview of the authors' take",
        AUTHORS,
        (f"python3 run.py preview --take takes/covid {SMALL} --out out",),
        (ends_with(0), video("out/preview.mp4", 9, 64, 64)),
    ),
    Way(
        "prepare of the authors' take",
        AUTHORS,
        (
            "python train_egox.py prepare takes set --size 112x64 --frames 9 --prior released "
            "--validation 0 --test 0",
        ),
        (ends_with(0), files("set/manifest.jsonl", 1), files("set/**/ego_prior.mp4", 1)),
    ),
    Way(
        "a dry run of prepare on the authors' take writes nothing",
        AUTHORS,
        ("python train_egox.py prepare takes set --size 112x64 --frames 9 --dry-run",),
        (ends_with(0), files("set/manifest.jsonl", 0)),
    ),
    Way(
        "lerobot of the authors' take",
        AUTHORS,
        ("python train_egox.py lerobot --clips takes --out out",),
        (ends_with(0), files("out/meta/info.json", 1), says("0 to 8 of the video's 10")),
    ),
    Way(
        "lerobot checks the authors' take",
        AUTHORS,
        ("python train_egox.py lerobot --clips takes --out out --check",),
        (ends_with(0), files("out", 0), says("The cameras fit the pictures")),
        is_slow=True,
    ),
    Way(
        "evaluate of the released prior of the authors' take",
        AUTHORS,
        ("python train_egox.py evaluate takes generated out --protocol table1",),
        (ends_with(0), files("out/report.json", 1), says("1 of 1 clips evaluated")),
    ),
    Way(
        "prepare of a take with a tracker's file, of which the clock is declared",
        TRACKED,
        (
            "python train_egox.py prepare takes set --size 112x64 --frames 5 --validation 0 "
            "--test 0 --ego-path poses.tum --declare ego.time_offset_s=0",
        ),
        (ends_with(0), files("set/manifest.jsonl", 1)),
    ),
    # -- commands on a user's own files
    Way(
        "preview of single files",
        OWN,
        (
            "python3 run.py preview --video own.mp4 --depth own_depth.npz --ego-path path.json "
            f"{SMALL} --out out",
        ),
        (ends_with(0), video("out/preview.mp4", 9, 64, 64), says("give --exo-fov")),
    ),
    Way(
        "preview of a video that a list of takes names by its file",
        OWN,
        (
            "python3 run.py preview --video own.mp4 --depth own_depth.npz "
            f"--ego-path camera_params.json {SMALL} --out out",
        ),
        (ends_with(0), video("out/preview.mp4", 9, 64, 64)),
    ),
    Way(
        "preview of a video whose depth is missing",
        OWN,
        (f"python3 run.py preview --video own.mp4 --ego-path path.json {SMALL} --out out",),
        (ends_with(1), says("--depth"), files("out", 0)),
    ),
    Way(
        "preview of a wrong folder",
        NOTHING,
        ("python3 run.py preview --take nowhere --out out",),
        (ends_with(1), says("nowhere", "Fix:"), files("out", 0)),
    ),
    Way(
        "preview of nothing",
        NOTHING,
        ("python3 run.py preview --out out",),
        (ends_with(1), says("--take, or --video with --depth and --ego-path")),
    ),
    Way(
        "preview of a take and another depth",
        AUTHORS,
        (
            f"python3 run.py preview --take takes/covid --depth takes/covid/depth.npz {SMALL} "
            "--out out",
        ),
        (ends_with(1), says("--take, or --video with --depth and --ego-path")),
    ),
    Way(
        "prior of a wrong folder",
        NOTHING,
        ("python3 run.py prior --take nowhere --out out",),
        (ends_with(1), says("nowhere", "Fix:"), files("out", 0)),
    ),
    Way(
        "archive: the trainer says where it is",
        NOTHING,
        ("python train_egox.py train --config any.yaml",),
        (ends_with(1), says("clone the repository")),
    ),
    # -- graphs, on a server that runs the pack of the unpacked Registry archive
    Way(
        "egox_demo as shipped",
        SAMPLE,
        ("open egox_demo", "run"),
        (saves("side_by_side", 5), saves("ego", 5, 64, 64), runs("EgoXWanSampler")),
    ),
    Way(
        "egox_preview as shipped needs no file",
        SAMPLE,
        ("open egox_preview", "run"),
        (saves("exo_prior_preview", 5), leaves_out("EgoXMoGeVideo")),
    ),
    Way(
        "egox_preview with a file of MoGe that a saved graph names",
        SAMPLE,
        (
            f"download {MOGE_FILE}",
            "open egox_preview",
            "set EgoXLoadExoVideo frame_count 1",
            "set EgoXMoGeVideo model_name moge_2_vits_normal.pt",
            "run",
        ),
        (saves("exo_prior_preview", 1), runs("EgoXMoGeVideo", "EgoXDepthAlign")),
        is_slow=True,
    ),
    Way(
        "egox_preview with a file of MoGe that isn't there",
        SAMPLE,
        ("open egox_preview", "set EgoXMoGeVideo model_name gone.pt", "run"),
        (refuses("EgoXMoGeVideo"), says("models/geometry_estimation/gone.pt", "choose auto")),
    ),
    Way(
        "egox_preview with pictures instead of a video",
        NOTHING,
        (
            "open egox_preview",
            "link EgoXLoadExoVideo images EmptyImage "
            '\'{"width": 112, "height": 64, "batch_size": 5, "color": 8421504}\'',
            "run",
        ),
        (refuses("EgoXMoGeVideo"), says("moge_2_vits_normal.pt")),
    ),
    Way(
        "egox_preview with a video without depth",
        OWN,
        ("open egox_preview", *OWN_VIDEO, "run"),
        (
            refuses("EgoXMoGeVideo"),
            says("save it as models/geometry_estimation/moge_2_vits_normal.pt", "https://"),
        ),
    ),
    # The page walks that way on, with the file: tests/browser/test_without_weights.py.
    Way(
        "egox_preview with a video and its depth",
        OWN,
        (
            "copy own_depth.npz way/own_depth.npz",
            "open egox_preview",
            *OWN_VIDEO,
            "set EgoXDepthAlign depth_file way/own_depth.npz",
            "run",
        ),
        (
            saves("exo_prior_preview", 5),
            leaves_out("EgoXMoGeVideo"),
            says_nothing_of("metric depth: MoGe"),
        ),
    ),
    Way(
        "egox_basic without weights makes the prior",
        SAMPLE,
        ("open egox_basic", "run"),
        (refuses(*LOADERS), shows("EgoXRenderEgoPrior"), says("pytorch_lora_weights")),
    ),
    Way(
        "egox_basic with weights, twice",
        SAMPLE,
        ("open egox_basic", "with stand-ins", "run", "run"),
        (saves("ego", 5, 64, 64), runs_nothing()),
    ),
    Way(
        "egox_fast with weights and little memory",
        SAMPLE,
        (
            "open egox_fast",
            "with stand-ins",
            "set EgoXConditioning low_memory true",
            "run",
        ),
        (saves("ego", 5, 64, 64), runs("EgoXConditioning")),
    ),
    Way(
        "egox_one_video without weights names them",
        SAMPLE,
        ("open egox_one_video", "run"),
        (says("sam3", "sdpose", "moge", "qwen", "wan2.1"), leaves_out("EgoXSampleLong")),
    ),
    Way(
        "egox_stereo for a headset",
        SAMPLE,
        (
            "open egox_stereo",
            "set EgoXLoadExoVideo frame_count 1",
            "set EgoXSecondEye eye_px 128",
            "run",
        ),
        (saves("ego_180_LR", 1, 256, 128),),
    ),
    Way(
        "egox_attention with weights",
        SAMPLE,
        (
            "open egox_attention",
            "with stand-ins",
            "set EgoXAttentionCapture step 0",
            "set EgoXAttentionCapture block 0",
            "set EgoXAttentionView ego_x 30",
            "set EgoXAttentionView ego_y 30",
            "set EgoXAttentionView frame 0",
            "run",
        ),
        (saves("view", 1),),
    ),
    # -- a node behind or before the EgoX patch: its code is the host's own, or another pack's,
    # where ComfyUI's server loads it; egox_demo's LoRA was trained with exo alone, the stand-in not
    Way(
        "SkipLayerGuidanceDiT behind the patch",
        SAMPLE,
        (
            "open egox_basic",
            "with stand-ins",
            *SEPARATE_NODES,
            f"insert SkipLayerGuidanceDiT CFGGuider model '{SLG}'",
            "run",
        ),
        (
            saves("ego", 1),
            says("exo computed in 4 of 8 forwards"),
            says_nothing_of("geometry acted in"),
        ),
    ),
    Way(
        "a pack's node behind the patch",
        SAMPLE,
        (
            "open egox_basic",
            "with stand-ins",
            *SEPARATE_NODES,
            "insert EgoXTestsHalveModel CFGGuider model {}",
            "run",
        ),
        (
            saves("ego", 1),
            says("exo computed in 4 of 4 forwards; egox_standin_nodes needs the whole canvas"),
        ),
    ),
    Way(
        "EasyCache behind the patch with a LoRA of exo alone",
        SAMPLE,
        (
            "open egox_demo",
            *SEPARATE_NODES,
            f"insert EasyCache CFGGuider model '{EASY_CACHE}'",
            "run",
        ),
        (
            stops("SamplerCustomAdvanced"),
            says("add the node of ComfyUI's nodes_easycache before the"),
            names_no_path(),
        ),
    ),
    Way(
        "EasyCache before the patch with a LoRA of exo alone, as that message says",
        SAMPLE,
        (
            "open egox_demo",
            *SEPARATE_NODES,
            f"insert EasyCache EgoXModelPatch model '{EASY_CACHE}'",
            "run",
        ),
        (saves("ego", 1), says_nothing_of("geometry acted in", "nodes_easycache")),
    ),
    # -- at full size
    Way(
        "a dry run of prepare on the shipped takes",
        SAMPLE,
        ("python train_egox.py prepare sample set --dry-run",),
        (ends_with(0), says("1 clips were made to measure"), spends(20), files("set", 0)),
        is_slow=True,
    ),
    Way(
        "egox_preview whole",
        SAMPLE,
        ("open egox_preview whole", "run"),
        (saves("exo_prior_preview", 49), shows("EgoXPreviewEgoView")),
        is_slow=True,
    ),
)


def way_parameters(*, needs_server: bool) -> list:
    """List the ways that need ComfyUI's server, or the others, as parameters of a test."""
    return [
        pytest.param(
            way, id=re.sub(r"\W+", "_", way.name), marks=[pytest.mark.slow] if way.is_slow else []
        )
        for way in WAYS
        if way.needs_server == needs_server
    ]
