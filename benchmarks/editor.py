"""The pose editor with a cloud of 300,000 points: the server's coarse prior, and the page's frames while dragging.

The real server and the sample take at its full size. The route is asked 50 times for a 224 x 224 picture of changing
poses, with the points that the released renderer takes (as the side view is at first) and with all. The page runs in a
headless Chromium on its software renderer: the mouse turns the view, then the camera (with the live side view), for
some seconds each; times are those from one drawn frame to the next. At rest every point is drawn. Bars: the
route under 100 ms (median), at least 10 frames a second while dragging, all points at rest.

    python3 run.py bench editor [--save]
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from tools.rigs.comfy_page import ComfyPage, open_browsers, read_workflow
from tools.setup.base_dir import make_base_dir
from tools.setup.browser import find_browser, install_advice
from tools.setup.environment import this_environment
from tools.setup.layout import Layout
from tools.setup.server import Server
from tools.setup.workflow import part_of

from .support.record import bench_parser, finish

POINTS, FRAMES, WIDTH, HEIGHT = 300_000, 5, 784, 448
ROUTE_CALLS, ROUTE_WARM, ROUTE_BAR_MS = 50, 5, 100.0
DRAG_S, RATE_BAR = 6.0, 10.0
NODE = "EgoXEgoPoseInput"
NEEDED = ("EgoXLoadExoVideo", "EgoXDepthAlign", "EgoXBuildScene", NODE)
EDITOR = f"app.graph.nodes.find((n) => n.type === '{NODE}').egoxPose.editor"


def graph(layout: Layout) -> dict[str, Any]:
    """The part of egox_demo that leads to the pose node, at the released size."""
    saved = read_workflow(layout.repo / "workflows" / "egox_demo.json")
    return part_of(saved, NEEDED)


def open_editor(page: ComfyPage, layout: Layout) -> dict[str, Any]:
    """The editor with its scene; what the node told of it."""
    page.load(graph(layout))
    for name, value in (("file", "sample/synthetic_room/exo.mp4"), ("start_frame", 0), ("target_fps", 0.0),
                        ("frame_count", FRAMES), ("width", WIDTH), ("height", HEIGHT)):
        page.set_widget("EgoXLoadExoVideo", name, value)
    page.show(page.node_bounds(NODE))
    page.page.get_by_test_id("egox-open").first.click()
    page.page.get_by_test_id("egox-load-empty").click(timeout=60_000)
    page.page.wait_for_function(f"() => {EDITOR}?.view.cloud.count > 1000 && {EDITOR}.side.count > 0", timeout=300_000)
    page.page.wait_for_timeout(1500)
    return page.evaluate(f"() => {EDITOR}.data")


def measure_route(address: str, data: dict[str, Any], camera: dict[str, Any], dense: bool) -> dict[str, Any]:
    """Milliseconds of the coarse prior's route, over HTTP."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    times, sizes = [], []
    for i in range(ROUTE_WARM + ROUTE_CALLS):
        pose = [list(row) for row in data["path"][i % len(data["path"])]]
        pose[0][3] += 0.004 * i
        body = json.dumps({"token": data["scene"]["token"], "camera": camera, "w2c": pose, "size": 224, "frame": 0,
                           "dense": dense, "view": "bench", "count": i + 1 + 1000 * dense}).encode("utf-8")
        request = urllib.request.Request(f"{address}/egox/pose_editor/prior", body,
                                         {"Content-Type": "application/json", "Origin": address})
        begun = time.perf_counter()
        with direct.open(request, timeout=60) as answer:
            sizes.append(len(answer.read()))
        if i >= ROUTE_WARM:
            times.append(1000 * (time.perf_counter() - begun))
    return {"calls": len(times), "median_ms": round(statistics.median(times), 1), "least_ms": round(min(times), 1),
            "most_ms": round(max(times), 1), "bytes": round(statistics.mean(sizes))}


def measure_drag(page: ComfyPage, tool: str) -> dict[str, Any]:
    """Frame times while the mouse drags to and fro over the view."""
    hands = page.page
    hands.get_by_test_id(f"egox-tool-{tool}").click()
    hands.wait_for_timeout(800)
    box = hands.get_by_test_id("egox-view").bounding_box()
    # Off the middle, where the gizmo may be.
    x, y = box["x"] + 0.25 * box["width"], box["y"] + 0.8 * box["height"]
    hands.evaluate(f"() => {{ {EDITOR}.view.times.length = 0; {EDITOR}.side.times.length = 0; }}")
    hands.mouse.move(x, y)
    hands.mouse.down()
    begun, step = time.perf_counter(), 0
    while time.perf_counter() - begun < DRAG_S:
        step += 1
        hands.mouse.move(x + 160 * abs((step / 60) % 2 - 1), y - 20 * abs((step / 40) % 2 - 1))
    times = hands.evaluate(f"() => {EDITOR}.view.times.map((t) => t.frame)")
    share = hands.evaluate(f"() => {{ const c = {EDITOR}.view.cloud; return Math.min(1, c.budget / c.count); }}")
    rate = hands.evaluate(f"() => {EDITOR}.side.rate")
    hands.mouse.up()
    hands.wait_for_timeout(1200)
    times = sorted(times[3:])  # the first frames teach how many points this machine draws
    return {"frames": len(times), "frames_a_second": round(1000 * len(times) / sum(times), 1),
            "median_ms": round(statistics.median(times), 1), "p95_ms": round(times[int(0.95 * (len(times) - 1))], 1),
            "share_of_points": round(share, 3), "prior_a_second": round(rate, 1)}


def measure_rest(page: ComfyPage) -> dict[str, Any]:
    """What is drawn at rest, and how long that takes."""
    return page.evaluate(f"""() => {{
      const view = {EDITOR}.view;
      view.drawNow();
      const parts = Object.values(view.cloud.parts);
      const drawn = parts.reduce((sum, part) => sum + Math.min(part.count, part.geometry.drawRange.count), 0);
      const gl = view.renderer.getContext(), pixel = new Uint8Array(4), times = [];
      for (let i = 0; i < 5; i++) {{
        const begun = performance.now();
        view.renderer.render(view.scene, view.camera);
        gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
        times.push(performance.now() - begun);
      }}
      times.sort((a, b) => a - b);
      return {{ points: view.cloud.count, drawn, median_ms: Math.round(times[2]),
               view: [view.canvas.width, view.canvas.height] }};
    }}""")


def failures(route: dict[str, Any], drags: dict[str, Any], rest: dict[str, Any]) -> list[str]:
    failed = []
    failed += [f"the route takes {r['median_ms']} ms ({name}), bar {ROUTE_BAR_MS:.0f}" for name, r in route.items()
               if r["median_ms"] >= ROUTE_BAR_MS]
    failed += [f"{name}: {drag['frames_a_second']} frames a second, bar {RATE_BAR:.0f}"
               for name, drag in drags.items() if drag["frames_a_second"] < RATE_BAR]
    if rest["drawn"] < rest["points"]:
        failed.append(f"{rest['drawn']} of {rest['points']} points are drawn at rest")
    if rest["points"] < POINTS:
        failed.append(f"only {rest['points']} points in the scene")
    return failed


def main(arguments: list[str] | None = None) -> int:
    args = bench_parser(__doc__).parse_args(arguments)
    browser_file = find_browser()
    if browser_file is None:
        print(f"no browser: {install_advice()}", file=sys.stderr)
        return 1
    layout = Layout()
    environment = this_environment(layout)
    with tempfile.TemporaryDirectory(prefix="egox_bench_") as folder:
        base = make_base_dir(Path(folder), layout)
        with Server(environment, base, base.root / "server.log", variables={"OMP_NUM_THREADS": "2"}) as server, \
                open_browsers(browser_file) as browser:
            page = ComfyPage(browser(True), server.client, size=(1400, 900)).open()
            data = open_editor(page, layout)
            camera = page.evaluate(f"() => {EDITOR}.camera.camera")
            route = {name: measure_route(server.address, data, camera, dense)
                     for name, dense in (("released", False), ("dense", True))}
            drags = {"turning the view": measure_drag(page, "move"), "turning the camera": measure_drag(page, "look")}
            page.page.get_by_test_id("egox-tool-move").click()
            page.page.wait_for_timeout(800)
            rest = measure_rest(page)
            page.check()
            page.close()
    failed = failures(route, drags, rest)
    lines = [f"coarse prior of 224 x 224 px, {name}, scene of {data['scene']['points']:,} points: median "
             f"{r['median_ms']} ms of {r['calls']} ({r['least_ms']} to {r['most_ms']})" for name, r in route.items()]
    lines += [f"{name}: {d['frames_a_second']} frames a second (median {d['median_ms']} ms, 95 % under {d['p95_ms']} "
              f"ms), {100 * d['share_of_points']:.0f} % of the points; side view {d['prior_a_second']} a second"
              for name, d in drags.items()]
    lines.append(f"at rest {rest['drawn']:,} of {rest['points']:,} points in {rest['median_ms']} ms, "
                 f"{rest['view'][0]} x {rest['view'][1]} px")
    lines.append("\n".join(failed) if failed else "all bars hold")
    return finish("editor", {"route": route, "dragging": drags, "rest": rest, "failed": failed}, args,
                  "\n".join(lines), not failed)


if __name__ == "__main__":
    sys.exit(main())
