// A workflow that opens as a form is fitted into a canvas that isn't on the page: where another
// form was open before, the host leaves zoom 0 and no place, and its graph is blank once one looks
// at it.
import { app } from "../../scripts/app.js";

app.registerExtension({
  name: "EgoX.GraphView",
  setup() {
    const canvas = app.canvas?.canvas;
    if (!canvas) return;
    new ResizeObserver(() => {
      const { ds } = app.canvas;
      const placed = ds.scale > 0 && Number.isFinite(ds.offset[0]) && Number.isFinite(ds.offset[1]);
      if (placed || !canvas.clientWidth) return;
      // The host's own fit moves there from where it is, so it has to be somewhere.
      ds.scale = 1;
      ds.offset[0] = ds.offset[1] = 0;
      fitOnceDrawn(canvas);
    }).observe(canvas);
  },
});

// The host fits into the height that the canvas is drawn with, which on its first frame may be
// three pages.
function fitOnceDrawn(canvas, tries = 120) {
  const drawn = canvas.height / (window.devicePixelRatio || 1);
  if (tries && Math.abs(drawn - canvas.clientHeight) > 2)
    requestAnimationFrame(() => fitOnceDrawn(canvas, tries - 1));
  else app.extensionManager?.command?.execute("Comfy.Canvas.FitView");
}
