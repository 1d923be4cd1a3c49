// Messages at the page's upper right.

export const LIFE = 20000; // ms, of what has to be read

export function toast(app, severity, detail, life = severity === "error" ? LIFE : 8000) {
  keepOffForm();
  app.extensionManager?.toast?.add({ severity, summary: "EgoX", detail, life });
}

// They would lie over the form's first rows.
function keepOffForm() {
  const form = document.querySelector("[data-testid=app-mode-widget-item]")?.getBoundingClientRect();
  document.documentElement.style.setProperty("--egox-form", form ? `${innerWidth - form.left}px` : "0px");
}
