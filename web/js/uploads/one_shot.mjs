// Offered after a run that found a cut: the clip is one shot all the same. The input is a socket,
// so a node of the host's sets it, and goes when another video comes.
import { button } from "../editor/view/elements.mjs";
import { findWidget, noteChange } from "../graph_change.mjs";
import { findNode, intoSight, listAround } from "../previews/node.mjs";

const INPUT = "one_shot";
// node property, so that a saved workflow knows it, too: { file, id }
const SETTER = "egox_one_shot";
const ABOVE_PX = 50; // px, from the top of the node

export function oneShotButton(app, api, node, say) {
  const file = () => findWidget(node, "file")?.value;
  const setter = () => node.properties[SETTER];
  let fileWithCut = null;
  const element = button("egox-trim-one-shot", "", "", () => {
    if (setter()) end();
    else begin();
    noteChange(app);
    show();
  });

  const begin = () => {
    const boolean = window.LiteGraph.createNode("PrimitiveBoolean");
    boolean.pos = [node.pos[0], node.pos[1] - ABOVE_PX];
    boolean.flags.collapsed = true;
    node.graph.add(boolean);
    findWidget(boolean, "value").value = true;
    boolean.connectSlots(boolean.outputs[0], node, node.inputs[node.findInputSlot(INPUT)]);
    node.properties[SETTER] = { file: file(), id: boolean.id };
  };
  const end = () => {
    const boolean = node.graph.getNodeById(setter().id);
    if (boolean) node.graph.remove(boolean);
    delete node.properties[SETTER];
  };
  const show = () => {
    if (setter() && setter().file !== file()) end();
    element.hidden = !setter() && fileWithCut !== file();
    element.textContent = say(setter() ? "findCuts" : "oneShot");
    element.title = say("oneShotHelp");
  };
  // The host's box of the fault comes later and takes room from the form's rows.
  const watcher = new ResizeObserver(() =>
    element.hidden ? watcher.disconnect() : intoSight(element),
  );
  api.addEventListener("execution_error", ({ detail }) => {
    if (findNode(app, detail.node_id) !== node || !detail.exception_message.includes(INPUT)) return;
    fileWithCut = file();
    show();
    const list = listAround(element);
    if (list) watcher.observe(list);
  });
  return { element, show };
}
