// Messages at the page's upper right.

export function toast(app, severity, detail) {
  keepOffForm();
  app.extensionManager?.toast?.add({ severity, summary: "EgoX", detail, life: severity === "error" ? 20000 : 8000 });
}

// They would lie over the form's first rows.
export function keepOffForm() {
  const form = document.querySelector("[data-testid=app-mode-widget-item]")?.getBoundingClientRect();
  document.documentElement.style.setProperty("--egox-form", form ? `${innerWidth - form.left}px` : "0px");
}
