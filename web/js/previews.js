// Previews on the nodes: registration only, the work is in the modules (the host imports every .js
// at page load).
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { allNodes, LOADER, onChange } from "./graph_change.mjs";
import { markOld, noteFiles, noteQueued } from "./previews/old.mjs";
import { timeRuns } from "./previews/strip.mjs";
import { KEY, attachPreview, findNode, showKept, showNew, showOfClip } from "./previews/node.mjs";

const NODES = {
  // node -> what its preview is of: "empty" and "label" before it make keys of locales/en/main.json
  EgoXDepthAlign: "Depth",
  EgoXEstimateHeadPose: "Head",
  EgoXExoMotion: "Motion",
  EgoXRenderEgoPrior: "Prior",
  EgoXPreviewEgoView: "Preview",
  EgoXWanSampler: "Live",
  EgoXDecodeEgoHalf: "Compare",
  EgoXSecondEye: "Eyes",
  EgoXSampleLong: "Compare",
  EgoXAttentionView: "Attention",
};

const subjectOf = (node) => NODES[node.constructor.comfyClass];

// The inner node whose player a subgraph promotes, by the slot that its file gives the player.
function innerShown(node) {
  const shown = (inner) =>
    inner.inputs?.some((slot) => slot.name === KEY && slot.link != null) && subjectOf(inner);
  return node.subgraph?.nodes?.find(shown);
}

// Some frontends keep of a promoted widget its value alone, and draw nothing of a player; then the
// outer node gets one of its own. Older ones have a view of the inner widget, and draw that.
function showOutside(node) {
  const inner = innerShown(node);
  const slot = node.inputs?.find(({ name }) => name === KEY);
  const promoted = node.widgets?.find(({ name }) => name === KEY);
  const isDrawn = promoted && (promoted.element || "sourceWidgetName" in promoted);
  if (inner && slot?.widget && !isDrawn) attachPreview(app, api, node, subjectOf(inner), slot);
}

// The node that has a player of its own for what the inner one of this path ("5:3") gives.
function shownOn(path) {
  const [, host, inner] = String(path).match(/^(.*):([^:]+)$/) ?? [];
  const node = inner ? findNode(app, host) : null;
  return node?.egoxPreview && String(innerShown(node)?.id) === inner ? node : null;
}

app.registerExtension({
  name: "EgoX.Previews",
  setup() {
    timeRuns(api);
    const { queuePrompt } = api;
    api.queuePrompt = async function (number, { output }) {
      const answer = await queuePrompt.apply(this, arguments);
      noteQueued(answer?.prompt_id, output);
      return answer;
    };
    for (const kind of ["execution_success", "execution_error", "execution_interrupted"])
      api.addEventListener(kind, () => {
        for (const node of allNodes(app)) node.egoxPreview?.putAway();
      });
    api.addEventListener("egox.live", ({ detail }) => {
      for (const node of [findNode(app, detail.node), shownOn(detail.node)])
        node?.egoxPreview?.show(detail.preview);
    });
    api.addEventListener("executed", ({ detail }) => {
      noteFiles(app, detail.prompt_id, detail.output);
      markOld(app);
      const node = shownOn(detail.node);
      if (node) showNew(app, node, detail.output);
    });
  },
  afterConfigureGraph() {
    markOld(app);
  },
  nodeCreated(node) {
    if (node.constructor.comfyClass === LOADER) onChange(node, ["file"], () => markOld(app));
    if (subjectOf(node)) attachPreview(app, api, node, subjectOf(node));
    if (!node.isSubgraphNode?.()) return;
    const { onConfigure } = node;
    node.onConfigure = function () {
      onConfigure?.apply(this, arguments);
      showOutside(this);
    };
  },
  loadedGraphNode(node) {
    if (!node.egoxPreview) return;
    // Switching between open workflows makes the nodes anew; the page still has their results.
    const inner = innerShown(node);
    const key = inner ? `${node.subgraph.id}:${inner.id}` : String(node.id);
    showKept(app, node);
    setTimeout(() => showOfClip(app, node, app.nodeOutputs?.[key]), 0);
  },
});
