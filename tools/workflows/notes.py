"""Notes on the canvas of the shipped workflows: the steps, the model links, and what could not be
tried."""

from __future__ import annotations

from egox_core.wan.lora_keys import RELEASED_FILE

HUB = "https://huggingface.co/Comfy-Org"
WAN = f"{HUB}/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"
KIJAI = "https://huggingface.co/Kijai/WanVideo_comfy/resolve/main"
LORA_URL = f"https://huggingface.co/DAVIAN-Robotics/EgoX/resolve/main/{RELEASED_FILE}"
"""Address of the authors' LoRA according to others; nobody here has opened it, and the README that
the authors published first links a Google Drive folder in its place."""

UNTRIED = "*Not run with the real 14B weights so far: the graph was tested with small stand-ins of the same form.*"

WEIGHTS = f"""| file (28 GB together) | folder | GB |
|---|---|---|
| [wan2.1_i2v_480p_14B_fp8_scaled]({WAN}/diffusion_models/wan2.1_i2v_480p_14B_fp8_scaled.safetensors) | `diffusion_models` | 16 |
| [umt5_xxl_fp8_e4m3fn_scaled]({WAN}/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors) | `text_encoders` | 6.7 |
| [wan_2.1_vae]({WAN}/vae/wan_2.1_vae.safetensors) | `vae` | 0.25 |
| [clip_vision_h]({WAN}/clip_vision/clip_vision_h.safetensors) | `clip_vision` | 1.3 |
| [pytorch_lora_weights]({LORA_URL}), the EgoX authors' LoRA (unopened from here; if it is not there, see the links in the README of the authors' code) | `loras` | 3.4 |

**Look before you download**: *Run* makes the ego prior without any of these files, where depth and poses come from
files; the page then lists what is missing, each with its button. *Prior only* on its player makes no more than it.

Nearest to the authors, with 40 GB of main memory or more: `wan2.1_i2v_480p_14B_bf16` or `_fp16` from the same place.
Not `_fp8_e4m3fn`: it has no scales, is the least exact of them and no smaller. In an fp8 file the LoRA is rounded too.
"""  # noqa: E501  (a row of a table is one line)

DEMO = """## EgoX demo: the small model

One third-person video in, the first-person video of what that person saw out. Press **Run**: every stage is the real
one, and the weights come with the pack (`models/demo`, about 30 MB): an EgoX of the same architecture, trained from
nothing on computer-drawn rooms, 9 frames at 128 x 128. The room here is one that it never saw in training.

Try it: **λ_g** on *EgoX* (3 as trained, 0 = no geometry), **LoRA strength** beside it (0 = the base, which knows
nothing of exo videos), the head's path on *Ego Pose Input*. *Scene and prior* and *EgoX* are subgraphs: the button in
their title opens them. Two **steps** draw what it knows: with eight it invents more, pictures on the walls for
one, and is no sharper.

It knows drawn rooms only. For real footage open `egox_basic`.
"""


SEVERAL = """## Several exo cameras

The same moment from up to four sides: what one camera's prior lacks, another one's may have. Press **Run**: the room is
the pack's own, sampled by its small model, and the file *grid* shows what one camera gives, two and four, and the ego
video of all four.

1. *Rank Exo Cameras*, in *Further cameras*, says how much of the person's view each camera could show. Take the best
   one as the first: it is the one that the model is shown and that λ_g refers to.
2. *Further cameras* holds the other videos: the button in its title opens it. With two cameras, disconnect
   *scene_3* and *scene_4* of *Scenes and priors*.
3. **Your own**: all cameras need `camera_extrinsics` in one world, and clips that begin at the same moment; synchronise
   them first. Depth comes from files beside each video.
"""


def cost(files: str, minutes: str) -> str:
    """Files, memory and time of a graph, in its first note."""
    return (
        f"**{files}**, a card of 16 GB or more, 32 GB of main memory, {minutes} on an RTX 4090 "
        "(reckoned, not measured)."
    )


BASIC = f"""## EgoX

{cost("28 GB of files", "some 19 minutes")}

1. **Load the weights**: five files, which the note *Weights* lists.
2. Press **Run**: the graph opens with the pack's synthetic take (video, `depth.npz`, `meta.json` in one folder).
3. **Tune** λ_g (3 = the authors' inference, 0 = no geometry) and the LoRA's strength on *EgoX*.
4. **Faster**: *Recompute exo* 4 computes the exo half in 13 of the 50 steps: about half of the time, reckoned; it takes
   7.5 GB beside the model, and the picture moves a little.

*Scene and prior*, *EgoX*: the button in their title opens them.

{UNTRIED}
"""

BASIC_WEIGHTS = f"""### Into these folders of `models`

{WEIGHTS}
The seed of *Wan EgoX Sampler* is what counts; `noise_seed` of *EgoX Conditioning* is for graphs of separate nodes. With
another seed than that one the sampler embeds its own first picture: VAE and CLIP Vision are loaded once more.

*EgoX Text*, in *EgoX*, says how long the prompt is: the model is shown its first 512 tokens, and the negative prompt is
empty, both as in the authors' inference.
"""

DEPTH = f"""## For your own video

1. *Upload own files* in *Load Exo Video*: the video (a fixed camera, 49 frames or more, the whole person in view), and
   depth and `meta.json` where you have them; a `.zip` of all does, too.
2. Without depth, put
   [a MoGe model]({HUB}/MoGe/resolve/main/geometry_estimation/moge_2_vitl_normal_fp16.safetensors) and
   [Depth Anything 3 Base]({HUB}/Depth-Anything-3/resolve/main/geometry_estimation/depth_anything_3_base.safetensors)
   into `models/geometry_estimation` and
   [SAM3]({HUB}/sam3.1/resolve/main/checkpoints/sam3.1_multiplex_fp16.safetensors) into `models/checkpoints`, choose
   them here, and **un-bypass both groups** (select them, Ctrl+B). SAM3 tells what moves (the words stand in *What
   moves*); without it people are part of the depth's fit, and what moves is guessed from change.
3. *Ego Pose Input*: give the take's `meta.json`, or place the head in its pose editor.
4. Write the prompt in two sections, `[Exo view]` and `[Ego view]`, into *EgoX Text* (disconnect its
   `prompt` first).
"""

ONE_VIDEO = f"""## One video, nothing by hand

{cost("38 GB of files (5 of them for the prior alone)", "some 19 minutes")}

1. **For the prior alone** (about 5 GB; *Prior only* on its player needs no more, so look at it first):

| file | folder | GB |
|---|---|---|
| [sam3.1_multiplex_fp16]({HUB}/sam3.1/resolve/main/checkpoints/sam3.1_multiplex_fp16.safetensors): who, where | `checkpoints` | 1.75 |
| [sdpose_wholebody_fp16]({HUB}/SDPose/resolve/main/checkpoints/sdpose_wholebody_fp16.safetensors): the head's points | `checkpoints` | 1.9 |
| [moge_2_vitl_normal_fp16]({HUB}/MoGe/resolve/main/geometry_estimation/moge_2_vitl_normal_fp16.safetensors): metres | `geometry_estimation` | 0.66 |
| [depth_anything_3_base]({HUB}/Depth-Anything-3/resolve/main/geometry_estimation/depth_anything_3_base.safetensors): steady depth | `geometry_estimation` | 0.54 |

2. **For the ego video** the five files of `egox_basic` (28 GB, in its note *Weights*), and for the words:

| file | folder | GB |
|---|---|---|
| [qwen3vl_4b_fp8_scaled]({HUB}/Qwen3-VL/resolve/main/text_encoders/qwen3vl_4b_fp8_scaled.safetensors): the words (`qwen3vl_8b_fp8_scaled`, twice as large, writes better) | `text_encoders` | 5.2 |

3. **Choose the video** in *Load Exo Video*: a camera that stands still, the person and what they do in view. 49 frames
   take the time above; a longer part is sampled in chunks, as many as the form says below the video.
4. Press **Run**. Look at *Wearer's head*: axes and cone on the head, orange where the turn is a guess. *On two real takes with
   small detectors the head was 1 to 5 cm off across the line of sight, but the turn of a profile or a back some 20°.*
5. **Correct it** where it is wrong: *Open pose editor* on *Ego Pose Input* begins with the estimate and asks what the wearer
   looks at: click on it in the exo frame, and the whole path turns with it. *On those takes one click left 5 to 11°, but 20° of
   a back; three left 5 to 8°.* What you change there counts from then on, and `source` back at *estimated* drops it. It belongs
   to this video: another one begins with its
   own estimate, and the correction comes back with the video.

Each part can be replaced (open a subgraph by its corner):

- *SDPose* by *MediaPipe Face Landmarker* or *SAM 3D Body*: any one of the sockets of *Estimate Head Pose* will do.
- One depth model is enough; a depth file beside the video does without any.
- Without a language model bypass the three nodes of its group (Ctrl+B) and set *Caption* to *no caption*, or write the
  prompt into *EgoX Text* and choose *as written*. In a published ablation of a like model
  no caption cost 1.4 dB.
- Several people: *The wearer*, inside *Wearer's head*, takes SAM3's number of the one, from 0. A camera that isn't worn as
  glasses: `pitch` of *Estimate Head Pose* there.

{UNTRIED} *SAM3, SDPose, MoGe, Depth Anything 3 and Qwen3-VL were not run either, for want of their weights: tests put
nodes in their places that answer the truth of a drawn take.*
"""  # noqa: E501

ANY_VIDEO = """## Any video of your own

1. **Weights** as in `egox_basic`, and those of the note *Weights*.
2. **Choose the video** in *Load Exo Video*: a camera that stands still, the person and the table in view.
3. **Open the pose editor** on *Ego Pose Input* and wait for the scene: MoGe gives the scale, Depth Anything 3 the
   steadiness, SAM3 tells what moves.
4. **Click on the head** in the exo frame, then on what it looks at; by *Place head* again wherever the head has moved.
5. **Write** what the exo camera sees and what the person sees into *EgoX Prompt*, and press **Run**.
"""

ANY_VIDEO_WEIGHTS = f"""### For the geometry, into these folders of `models`

| file | folder |
|---|---|
| [moge_2_vitl_normal_fp16]({HUB}/MoGe/resolve/main/geometry_estimation/moge_2_vitl_normal_fp16.safetensors) | `geometry_estimation` |
| [depth_anything_3_base]({HUB}/Depth-Anything-3/resolve/main/geometry_estimation/depth_anything_3_base.safetensors) | `geometry_estimation` |
| [sam3.1_multiplex_fp16]({HUB}/sam3.1/resolve/main/checkpoints/sam3.1_multiplex_fp16.safetensors) | `checkpoints` |
"""  # noqa: E501

ANY_VIDEO_LIMITS = f"""### Good to know

- Only the wearer and what they hold should be tracked by SAM3; the words to look for stand in the text node beside it.
- No SAM3? Bypass its group: *Build Scene* then tells what moves from depth and colour.
- One depth model is enough. MoGe alone flickers a little, Depth Anything 3 alone has no metres.
- The keyframes here belong to the synthetic take that the graph opens with; with another video they are put away.

{UNTRIED} *MoGe, Depth Anything 3 and SAM3 were not run either, for want of their weights.*
"""

LOW_VRAM = """### Little memory

What doesn't fit into the card's memory stays in main memory, and ComfyUI copies it over when its turn comes. Nothing
needs to be switched on for that; it takes time. What helps further, in this order:

- **a smaller file**: the fp8 one, which is chosen, or a GGUF file (the other note), and main memory enough for it
  and 7 GB more;
- **fewer frames**: `frame_count` 33 or 17 of *Load Exo Video*, though the LoRA was trained with 49;
- `--reserve-vram` 1 or 2, where other programs need the card too;
- **the switch *Little memory*** on *EgoX* (*Decode Ego Half* follows) only where the VAE runs out of memory: it needs
  about 4 GB without, and works in tiles with it, which make slightly other latents.

*How much memory it takes on which card is not measured yet; the README says how to measure it on yours.*
"""

GGUF = """### Quantised weights (GGUF)

Below fp8, use a GGUF file of Wan 2.1 I2V 14B 480p (Q4 to Q8):

1. Install the pack **ComfyUI-GGUF**.
2. **Swap one node**: in place of *Load Diffusion Model* put *Unet Loader (GGUF)* and connect its `MODEL` to the `model`
   of *EgoX LoRA*. Everything behind it stays.

EgoX LoRA, the patch and the sampler work on what that loader returns; that is tested with small weights.
"""

FAST = f"""## EgoX in 6 steps

{cost("29 GB of files", "1 to 2 minutes")}

A **step-distilled LoRA** beside the EgoX LoRA: 4 to 8 steps instead of 50, and CFG 1 instead of 5, so each step is
half the work: about a 16th of the time of `egox_basic`.

1. **Weights** as the note *Weights* lists them, and
   [lightx2v_I2V_14B_480p_cfg_step_distill_rank64_bf16]({KIJAI}/Lightx2v/lightx2v_I2V_14B_480p_cfg_step_distill_rank64_bf16.safetensors)
   into `loras`.
2. Press **Run**. The negative prompt has no effect at CFG 1.
3. **Little memory?** There is a switch for it, in the form and on *EgoX*; what else helps, and GGUF, is told by the notes
   inside.
"""  # noqa: E501

FAST_WEIGHTS = f"""### Into these folders of `models`

{WEIGHTS}
{UNTRIED} *How the distilled LoRA and the EgoX LoRA get along with real weights remains to be seen: try strengths
between 0.6 and 1 for both, 4 to 8 steps, and shift 3 to 8.*
"""

LONG = f"""## Seconds, not 49 frames

*EgoX Sample Long Video* samples chunk after chunk: each is a clip of 49 frames with its own exo and prior, and begins
with the last 5 ego frames of the one before.

1. **Weights** as in `egox_basic`, whose note lists them.
2. **Choose the video**, with depth and poses for all its frames, and in the form start and length in seconds, whatever
   its frame rate (the graph has frames). The sample has 49 frames, one chunk; each further chunk brings 44.
3. **Remember places** when the person looks away and back: the same room is there then, as the first chunk made it.
4. Press **Run**. *A chunk takes what `egox_basic` takes.* Cancelled, it goes on where it was: finished chunks are kept.

{UNTRIED}
"""

LAMBDA = f"""## What do λ_g and LoRA strength do?

{cost("28 GB of files", "8 minutes per pair")}

*EgoX Sweep* makes every pair of the values that you type, and the host runs *EgoX LoRA*, the sampler and the decoder
once for each (both are in *EgoX*). One video comes out: a column for each λ_g, a row for each strength.

- Every pair is a whole sampling run: 3 λ_g and 2 strengths are 6. **Try with fewer steps first.**
- λ_g 0: no geometry, 3: as the authors. Strength 1: as the authors.
- All runs share one seed, prior and conditioning; *EgoX Conditioning* runs once, since it sits before the sweep.

Weights as in `egox_basic`. Type the values, press **Run**.

{UNTRIED}
"""

BASELINES = """## The same prior, four ways

| | what sees the prior | what sees the exo video |
|---|---|---|
| **Prior** | nobody: holes stay black | nobody |
| **EgoX** | Wan I2V with the EgoX LoRA | the whole exo video, guided by geometry |
| **VACE** | Wan VACE, holes as mask | its first frame as reference |
| **Fun Control** | Wan Fun Control as control video | its first frame through CLIP vision |

Weights as in `egox_basic`, and those of the note *Weights*; then press **Run**.
"""

BASELINES_WEIGHTS = f"""### Beside those of `egox_basic`

| file | folder |
|---|---|
| [wan2.1_vace_14B_fp16]({WAN}/diffusion_models/wan2.1_vace_14B_fp16.safetensors) (or the 1.3B) | `diffusion_models` |
| [wan2.1_fun_control_1.3B_bf16]({WAN}/diffusion_models/wan2.1_fun_control_1.3B_bf16.safetensors) | `diffusion_models` |

VACE and Fun Control are the host's own nodes, with the settings of the host's templates and a negative prompt; EgoX has
an empty one, as its authors leave it. The models differ in size (14B, 14B, 1.3B), so this shows kinds of conditioning,
not a ranking.

{UNTRIED}
"""

ATTENTION = f"""## What does an ego pixel look at?

For one pixel of the ego video, drawn over the exo frame (the paper's Figure 7):

- **g**, the geometry's weight: which exo pixels are in the direction of that ego pixel,
- the model's real **attention with the geometry**, and **without** it.

1. Weights as in `egox_basic`. Press **Run**: *EgoX Attention Capture* keeps the queries and keys of one block in one
   step while the video is sampled (its `step` and `block` choose which).
2. **Click into the ego picture** on *EgoX Attention View* and press **Run** again: another pixel needs no new sampling.
3. `all_frames` follows the pixel through the whole clip, and *Save view* makes a video of it.

{UNTRIED}
"""
