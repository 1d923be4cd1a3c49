"""Test that VR180 videos play in a browser."""

import math

import torch

from egox_core.cameras import preset_camera
from egox_core.stereo import StereoForm, mark_stereo, stereo_pictures
from egox_train.video_writer import write_video
from tests.poses import make_path, still_poses
from tools.setup.base_dir import PACK_NAME

RIGHT_RAD, UP_RAD = math.radians(30), math.radians(20)
_PLAY_SCRIPT = """async ([pack, right, up]) => {
  const from = (file) => import(`/extensions/${pack}/${file}`);
  const three = await from('vendor/three.mjs'), { eyeClips } = await from('previews/eyes.mjs');
  const video = Object.assign(document.createElement('video'), { muted: true });
  video.src = '/view?filename=patch_180_LR.mp4&type=input';
  await new Promise((done, failed) => { video.onseeked = done; video.onerror = failed; video.currentTime = 0.01; });
  const [width, height] = [video.videoWidth, video.videoHeight];
  const flat = Object.assign(document.createElement('canvas'), { width, height });
  let data = [];
  while (!data[3]) {  // on a busy machine there is no picture to draw yet
    await new Promise((done) => setTimeout(done, 50));
    flat.getContext('2d').drawImage(video, 0, 0);
    ({ data } = flat.getContext('2d').getImageData(0, 0, width, height));
  }
  const pixel = (x, y) => [...data.slice(4 * (y * width + x), 4 * (y * width + x) + 3)];
  const sphere = new three.SphereGeometry(1, 256, 128), { position } = sphere.attributes, colours = [];
  for (let i = 0; i < position.count; i += 1) {
    const [x, y, z] = [position.getX(i), position.getY(i), position.getZ(i)];
    const u = Math.atan2(x, -z) / Math.PI + 0.5, v = -Math.asin(y) / Math.PI + 0.5;
    const seen = z < 0 ? pixel(Math.floor(u * 0.999 * height), Math.floor(v * 0.999 * height)) : [0, 0, 0];
    colours.push(...seen.map((value) => value / 255));
  }
  sphere.setAttribute('color', new three.Float32BufferAttribute(colours, 3));
  const scene = new three.Scene();
  scene.add(new three.Mesh(sphere, new three.MeshBasicMaterial({ vertexColors: true, side: 1 })));
  const renderer = new three.WebGLRenderer({ preserveDrawingBuffer: true });
  renderer.setSize(400, 400, false);
  renderer.render(scene, new three.PerspectiveCamera(90, 1, 0.1, 10));
  const round = Object.assign(document.createElement('canvas'), { width: 400, height: 400 });
  round.getContext('2d').drawImage(renderer.domElement, 0, 0);
  const place = (side) => [200 + 200 * side * Math.tan(right), 200 - 200 * Math.tan(up) / Math.cos(right)];
  const at = (canvas, [x, y]) => [...canvas.getContext('2d').getImageData(x, y, 1, 1).data.slice(0, 3)];
  const clip = (name, left) => ({ name, count: 1, step: 1, width: height, height, source: [height, height],
                                  frame: () => [flat, left, 0, height, height] });
  const [anaglyph] = eyeClips([clip('leftEye', 0), clip('rightEye', height)]);
  const [both] = anaglyph.frame(0);
  const middle = height / 2, own = [(right / Math.PI + 0.5) * height, (-up / Math.PI + 0.5) * height];
  renderer.dispose();
  return { size: [width, height], there: at(round, place(1)), mirrored: at(round, place(-1)),
           patch: at(flat, own), anaglyph: at(both, own), ground: at(both, [middle, middle]) };
}"""


def test_a_vr180_file_plays_flat_and_on_a_half_sphere(open_page, browser_server):
    """Check in both projections that a patch drawn at a known direction appears there."""
    camera = preset_camera("aria_released", 128)
    rays, _ = camera.upright().pixel_rays()
    patch_direction = (
        math.cos(UP_RAD) * math.sin(RIGHT_RAD),
        -math.sin(UP_RAD),
        math.cos(UP_RAD) * math.cos(RIGHT_RAD),
    )
    patch_mask = (rays @ torch.tensor(patch_direction) > math.cos(math.radians(8)))[None, ..., None]
    eyes = [
        torch.where(patch_mask, torch.tensor(colour), torch.tensor([0.0, 0.0, 0.8]))
        for colour in ([0.9, 0.0, 0.0], [0.0, 0.9, 0.0])
    ]
    pictures = stereo_pictures(
        *eyes, make_path(still_poses(1), camera), StereoForm(eye_px=256, stabilise="off")
    )
    video_file = browser_server.base.root / "input" / "patch_180_LR.mp4"
    write_video(video_file, [*pictures] * 5, 10.0)
    mark_stereo(video_file, half_sphere=True)
    page = open_page(size=(1100, 720), stays_open=True)
    player_colours = page.evaluate(_PLAY_SCRIPT, [PACK_NAME, RIGHT_RAD, UP_RAD])
    assert player_colours["size"] == [512, 256]

    def bright_channels(name: str) -> set[int]:
        return {i for i, value in enumerate(player_colours[name]) if value > 100}

    assert bright_channels("patch") == bright_channels("there") == {0}
    assert bright_channels("mirrored") == bright_channels("ground") == {2}
    assert bright_channels("anaglyph") == {0, 1}  # red of the left eye, green of the right one
