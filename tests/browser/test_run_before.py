"""This run beside the one before, on the player of the ego video."""

from .preview_graph import choose_view, loaded, part, state
from .small_graph import make_small

NODE = "EgoXDecodeEgoHalf"
_PIXELS = """() => {
  const preview = app.graph.nodes.find((n) => n.type === 'EgoXDecodeEgoHalf').egoxPreview;
  const read = (clip) => {
    const [image, x, y, w, h] = clip.frame(1);
    const canvas = Object.assign(document.createElement('canvas'), { width: w, height: h });
    const context = canvas.getContext('2d');
    context.drawImage(image, x, y, w, h, 0, 0, w, h);
    return [...context.getImageData(0, 0, w, h).data];
  };
  return { ...Object.fromEntries(preview.pictures.map((clip) => [clip.name, read(clip)])),
           factor: preview.difference?.factor, mean: preview.difference?.mean };
}"""


def run(page) -> dict:
    page.queue()
    page.wait_for_run()
    return loaded(page, NODE)


def about(page) -> str:
    return part(page, NODE, "egox-preview-about").inner_text()


def test_a_second_run_is_shown_beside_the_first_and_a_strip_beside_them(open_page, unpacked):
    page = open_page()
    page.load(unpacked("egox_demo"))
    make_small(page)
    first = run(page)
    page.show(page.node_bounds(NODE))
    assert first["view"] == "side" and "before" not in first["views"]
    page.set_widget("EgoXWanSampler", "lambda_g", 0)
    second = run(page)
    assert second["view"] == "wipe" and not second["message"] and second["deviation"] > 5
    assert about(page).startswith("λ_g 3 → 0 · mean difference ")

    seen = page.evaluate(_PIXELS)
    assert seen["factor"] == 8 and seen["mean"] > 0.2
    for before, now, difference in zip(
        seen["before"], seen["ego"], seen["difference"], strict=True
    ):
        if (before, now) != (255, 255):  # all but the opaque alpha
            assert difference == min(255, 8 * abs(now - before)) or difference == 255

    obey(page)
    another_run(page)
    strip(page)

    # A run of another video is compared with nothing, whatever view was chosen.
    choose_view(page, NODE, "before")
    page.set_widget("EgoXLoadExoVideo", "file", "sample/synthetic_room/exo.mp4")
    other = run(page)
    assert "before" not in other["views"] and other["deviation"] > 5


def obey(page) -> None:
    """Menu, keys, the enlargement."""
    part(page, NODE, "egox-preview-stage").click(position={"x": 10, "y": 10})
    page.page.keyboard.press("d")
    before = state(page, NODE)
    assert before["view"] == "difference"
    part(page, NODE, "egox-preview-factor").select_option("32")
    assert state(page, NODE)["hash"] != before["hash"]
    part(page, NODE, "egox-preview-stage").click(position={"x": 10, "y": 10})
    page.page.keyboard.press("w")
    assert state(page, NODE)["view"] == "wipe" and "λ_g 3 → 0" in about(page), (
        "the wipe is of the two runs"
    )
    page.page.keyboard.press("1")
    assert about(page) == ""


def another_run(page) -> None:
    """The chosen view stays; a page that loads its graph again has the run before still."""
    page.page.keyboard.press("b")
    page.set_widget("EgoXWanSampler", "lambda_g", 5)
    assert run(page)["view"] == "before" and about(page).startswith("λ_g 0 → 5")
    page.load(page.saved())
    assert loaded(page, NODE)["view"] == "before" and about(page).startswith("λ_g 0 → 5")
    any_two(page)


def any_two(page) -> None:
    """The list of runs on both sides of the wipe."""
    choose_view(page, NODE, "wipe")
    sides = [part(page, NODE, f"egox-preview-{side}") for side in ("left", "right")]
    listed = dict(
        option.split("|")
        for option in sides[0].evaluate("(list) => [...list].map((o) => `${o.value}|${o.text}`)")
    )
    for name, value in (("ego", 5), ("before", 0), ("run2", 3)):
        assert f" · λ_g {value} · " in f" · {listed[name]}" and "LoRA" not in listed[name], listed
        assert listed[name].endswith(("dB", "°")), listed
    for side, name in zip(sides, ("run2", "before"), strict=True):
        side.select_option(name)
    page.page.wait_for_function(
        "([note, says]) => note.textContent.startsWith(says)",
        arg=[part(page, NODE, "egox-preview-about").element_handle(), "λ_g 3 → 0"],
    )
    choose_view(page, NODE, "before")


def strip(page) -> None:
    """It asks, and fills its cells."""
    choose_view(page, NODE, "strip")
    maker = part(page, NODE, "egox-preview-make")
    cells = "() => app.graph.nodes.find((n) => n.type === 'EgoXDecodeEgoHalf').egoxPreview.strip?.length"
    maker.click()
    assert "8 runs, about" in about(page)
    maker.click()
    page.page.wait_for_function(
        "(maker) => maker.textContent.startsWith('Make')", arg=maker.element_handle()
    )
    assert page.evaluate(cells) == 8 and about(page) == ""
