"""Define every metric: its name, unit, direction, inputs, and the tables that show it.

The order here is that of the tables; the first three families stand as in the paper's Table 1.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from egox_core.frozen import frozen

Family = Literal["image", "object", "video", "structure", "prior", "seen", "set"]
"""A ``set`` figure is one of all clips together; every other metric has a value for each clip."""
Table = Literal["paper", "paired", "clips"]
"""Tables with metrics of several families: the paper's columns, paired differences to the
baselines, a row per clip."""

LPIPS_WEIGHTS = (
    "torchvision's AlexNet, alexnet-owt-7be5be79.pth from download.pytorch.org/models, "
    "through tools/convert_to_safetensors.py (the linear layers come with torchmetrics)"
)
CLIP_WEIGHTS = (
    "a CLIP folder as openai/clip-vit-base-patch32 on Hugging Face (config.json, model.safetensors)"
)

MASKS_HINT = "--masks FOLDER, with masks of the true and of the generated videos"
RAFT_WEIGHTS = (
    "torchvision's RAFT, raft_large_C_T_V1-22a6c225.pth from download.pytorch.org/models, through "
    "tools/convert_to_safetensors.py"
)
FVD_WEIGHTS = (
    "cd-fvd's I3D, i3d_pretrained_400.pt from github.com/songweige/TATS (tats/fvd), through "
    "tools/convert_to_safetensors.py"
)
AMT_WEIGHTS = (
    "vbench's AMT-S, amt-s.pth from lalala125/AMT on Hugging Face, through "
    "tools/convert_to_safetensors.py; and its code: pip install --no-deps vbench"
)
DINO_WEIGHTS = (
    "a DINOv3 or DINOv2 folder, as facebook/dinov3-vitb16-pretrain-lvd1689m or "
    "facebook/dinov2-base on Hugging Face (config.json, preprocessor_config.json, "
    "model.safetensors)"
)
TABLE1_MASKS = (
    "--masks FOLDER of `masks --protocol table1`, and --dino FOLDER: "
    "facebook/dinov3-vitl16-pretrain-lvd1689m on Hugging Face (gated: ask for access there)"
)
MAE_WEIGHTS = (
    "cd-fvd's VideoMAE v2, vit_g_hybrid_pt_1200e_ssv2_ft.pth of OpenGVLab, through "
    "tools/convert_to_safetensors.py"
)

WEIGHTS: Mapping[str, str] = {
    "lpips": f"weights for LPIPS: {LPIPS_WEIGHTS}",
    "clip": f"weights for CLIP-I: {CLIP_WEIGHTS}",
    "raft": f"weights for Dynamic Degree: {RAFT_WEIGHTS}",
    "amt": f"weights for Motion Smoothness: {AMT_WEIGHTS}",
    "fvd": f"weights for FVD: {FVD_WEIGHTS}",
    "fvd-videomae": f"weights for FVD (VideoMAE): {MAE_WEIGHTS}",
    "dino": f"matches objects by looks, not by id: {DINO_WEIGHTS}",
}
"""Networks that a call may give files of: name -> what they are for, and where they come from."""


@frozen
class Metric:
    """Definition of one metric, which is a column of the report."""

    key: str
    label: str
    family: Family
    better: Literal["higher", "lower", "neither"] = "higher"
    digits: int = 3
    meaning: str = ""
    needs: str = ""  # where the value is None without it
    tables: tuple[Table, ...] = ()  # beside the table of its family

    @property
    def heading(self) -> str:
        """Column title of the metric, with an arrow that points to better values."""
        return self.label + {"higher": " ↑", "lower": " ↓", "neither": ""}[self.better]


SEEN_WORDS: Mapping[str, str] = {
    "now": "where exo sees the point in this frame",
    "earlier": "where exo saw it at another time",
    "doubtful": "where something that exo never saw may hide it",
    "unobserved": "where exo never saw anything",
}
"""Description of each of ``egox_core.types.SEEN_KINDS``."""


def _by_class(
    key: str, label: str, direction: Literal["higher", "lower"], digits: int, measure: str
):
    return (
        Metric(
            key=f"{key}_{class_name}",
            label=f"{label} {class_name}",
            family="seen",
            better=direction,
            digits=digits,
            meaning=f"{measure}, {class_words} (seen.mkv of the clip)",
        )
        for class_name, class_words in SEEN_WORDS.items()
    )


METRICS: tuple[Metric, ...] = (
    Metric(
        key="psnr",
        label="PSNR",
        family="image",
        digits=2,
        meaning="dB, mean over frames, 100 for equal frames",
        tables=("paper", "paired", "clips"),
    ),
    Metric(
        key="ssim",
        label="SSIM",
        family="image",
        meaning="Gaussian window of 11 px, mean over channels and frames",
        tables=("paper", "paired", "clips"),
    ),
    Metric(
        key="lpips",
        label="LPIPS",
        family="image",
        better="lower",
        meaning="AlexNet, mean over frames",
        needs=f"--lpips FILE: {LPIPS_WEIGHTS}",
        tables=("paper", "paired"),
    ),
    Metric(
        key="clip_i",
        label="CLIP-I",
        family="image",
        meaning="cosine of CLIP image embeddings of the same frame, mean over frames",
        needs=f"--clip FOLDER: {CLIP_WEIGHTS}",
        tables=("paper", "paired"),
    ),
    Metric(
        key="location_error_px",
        label="Location Err (px)",
        family="object",
        better="lower",
        digits=2,
        needs=MASKS_HINT,
        tables=("paper", "clips"),
        meaning="distance of the largest outlines' mean points, pixels of the picture",
    ),
    Metric(
        key="iou",
        label="IoU",
        family="object",
        meaning="of masks; a mask missing in the generated video has 0",
        needs=MASKS_HINT,
        tables=("paper", "clips"),
    ),
    Metric(
        key="contour_accuracy",
        label="Contour Acc",
        family="object",
        meaning="F-measure of boundaries to 0.8 % of the diagonal; a missing mask has 0",
        needs=MASKS_HINT,
        tables=("paper",),
    ),
    Metric(
        key="fvd",
        label="FVD",
        family="set",
        better="lower",
        digits=1,
        tables=("paper",),
        meaning=(
            "Fréchet distance of I3D features (cd-fvd) between all generated and all true videos; "
            "comparable between sets of the same clips only"
        ),
        needs=f"--fvd FILE: {FVD_WEIGHTS}",
    ),
    Metric(
        key="fvd-videomae",
        label="FVD (VideoMAE)",
        family="set",
        better="lower",
        digits=1,
        tables=("paper",),
        meaning="the same of VideoMAE v2's features (cd-fvd), which judge motion more",
        needs=f"--fvd-videomae FILE: {MAE_WEIGHTS}",
    ),
    Metric(
        key="temporal_flickering",
        label="Temporal Flickering",
        family="video",
        meaning="1 - mean absolute difference of following frames (values 0 to 1)",
        tables=("paper", "paired", "clips"),
    ),
    Metric(
        key="motion_smoothness",
        label="Motion Smoothness",
        family="video",
        meaning=(
            "1 - mean absolute difference of every second frame to its neighbours' interpolation "
            "by AMT-S"
        ),
        needs=f"--amt FILE: {AMT_WEIGHTS}",
        tables=("paper",),
    ),
    Metric(
        key="dynamic_degree",
        label="Dynamic Degree",
        family="video",
        meaning="share of clips that move, by vbench's rule over RAFT flow",
        needs=f"--raft FILE: {RAFT_WEIGHTS}",
        tables=("paper",),
    ),
    Metric(
        key="patch_zncc",
        label="Patch ZNCC",
        family="structure",
        meaning="correlation of luma in each square of 64 px, without its mean and contrast; "
        "mean over the squares in which the true picture shows something",
        tables=("paired", "clips"),
    ),
    Metric(
        key="missing_masks",
        label="Missing masks",
        family="object",
        better="lower",
        digits=0,
        meaning="of those, without a mask in the generated video; left out of the location errors",
        needs=MASKS_HINT,
        tables=("clips",),
    ),
    Metric(
        key="coverage",
        label="Coverage",
        family="prior",
        better="neither",
        meaning="share of the ego picture that the prior covers",
        tables=("clips",),
    ),
    Metric(
        key="psnr_inside",
        label="PSNR inside",
        family="prior",
        digits=2,
        meaning="dB over all covered pixels of the clip",
        tables=("paired", "clips"),
    ),
    Metric(
        key="psnr_outside",
        label="PSNR outside",
        family="prior",
        digits=2,
        meaning="dB over all pixels that the prior leaves open",
        tables=("paired", "clips"),
    ),
    Metric(
        key="path_error",
        label="Path Err",
        family="prior",
        better="lower",
        digits=1,
        meaning=(
            "degrees between view and rendered path, median over the frames that can be judged; "
            "with wrong depth it shows the error of the depth"
        ),
        tables=("clips",),
    ),
    Metric(
        key="path_judged",
        label="Path judged",
        family="prior",
        digits=2,
        meaning="share of frames whose view could be compared with the path",
    ),
    Metric(
        key="view_turn",
        label="View turn",
        family="prior",
        better="lower",
        digits=1,
        meaning=(
            "degrees of the one turn of the clip's view against the path, by the exact geometry "
            "where it is known"
        ),
    ),
    Metric(
        key="view_turn_interval",
        label="View turn ±",
        family="prior",
        better="lower",
        digits=1,
        meaning="degrees within which that turn is known, in 90 % of clips",
    ),
    *_by_class("psnr", "PSNR", "higher", 2, "dB over the clip's pixels"),
    *_by_class("ssim", "SSIM", "higher", 3, "mean of SSIM's map"),
    *_by_class("lpips", "LPIPS", "lower", 3, "mean of LPIPS' map"),
)

CLIP_METRICS = tuple(m for m in METRICS if m.family != "set")
"""The metrics of a row."""


def metrics_of_families(*families: Family) -> Sequence[Metric]:
    """List the metrics that belong to the given families, in the order of the tables."""
    return [metric for metric in METRICS if metric.family in families]


def metrics_of_table(table: Table) -> Sequence[Metric]:
    """List the metrics that one table of the report shows, in its order."""
    return [metric for metric in METRICS if table in metric.tables]
