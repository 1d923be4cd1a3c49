// Says on the page that the pack has no nodes, and the command that brings them.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

app.registerExtension({
  name: "EgoX.NoOpenCV",
  async setup() {
    const { text } = await (await api.fetchApi("/egox/opencv")).json();
    app.extensionManager.toast.add({ severity: "error", summary: "EgoX", detail: text });
  },
});
