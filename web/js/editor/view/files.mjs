// Paths in from files and out to files; the server knows the forms, see
// egox_core/exchange/paths.py.
import { button, make, select } from "./elements.mjs";

export const FORMS = ["keyframes", "trajectory", "meta", "colmap", "blender", "chan"];
const MOST_MB = 24;

export class Files {
  // context(): { camera, indices, times_s, token, up, prompt, document }, as the server wants it
  constructor(server, say, context, onDocument, tell) {
    this.server = server;
    this.say = say;
    this.context = context;
    this.onDocument = onDocument;
    this.tell = tell;
    this.input = make("input", "", {
      type: "file",
      accept: ".json,.txt",
      multiple: true,
      hidden: true,
      "data-testid": "egox-import-file",
    });
    this.input.addEventListener("change", () => this.read([...this.input.files]));
    this.export = select(
      "egox-export",
      say("exportHelp"),
      [["", say("export")], ...FORMS.map((form) => [form, say(`form_${form}`)])],
      (form) => this.write(form),
    );
    this.element = make(
      "span",
      "egox-ed-files",
      {},
      this.input,
      button("egox-import", say("import"), say("importHelp"), () => this.input.click()),
      this.export,
    );
  }

  async read(files) {
    this.input.value = "";
    if (!files.length) return;
    if (files.reduce((sum, file) => sum + file.size, 0) > MOST_MB * 2 ** 20)
      return this.tell(this.say("tooLarge", { size: MOST_MB }));
    const texts = Object.fromEntries(
      await Promise.all(files.map(async (file) => [file.name, await file.text()])),
    );
    await this.take({ texts });
  }

  // what: { texts } | { file } | { poses }
  async take(what) {
    try {
      const { document: content, note } = await this.server.json("import", {
        ...this.context(),
        ...what,
      });
      this.onDocument(content);
      this.tell(note);
    } catch (error) {
      this.tell(error.message);
    }
  }

  async write(form) {
    this.export.value = "";
    if (!form) return;
    try {
      const answer = await this.server.post("export", { ...this.context(), form });
      const name =
        answer.headers.get("Content-Disposition")?.match(/filename="([^"]+)"/)?.[1] ?? "path.json";
      const address = URL.createObjectURL(await answer.blob());
      make("a", "", { href: address, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(address), 10000);
    } catch (error) {
      this.tell(error.message);
    }
  }
}
