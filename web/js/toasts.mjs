// Messages at the page's upper right.

export const LIFE = 20000; // ms, of what has to be read

// An error stays until it is closed or mended. Gives a function that takes the message away.
export function toast(app, severity, detail, life = severity === "error" ? Infinity : 8000) {
  keepOffForm();
  const { toast: shown } = app.extensionManager;
  if (shown.dismiss) {
    const id = shown[severity === "warn" ? "warning" : severity]("EgoX", {
      description: detail,
      duration: life,
    });
    return () => shown.dismiss(id);
  }
  // without one it stays
  const message = { severity, summary: "EgoX", detail, ...(life < Infinity ? { life } : {}) };
  shown.add(message);
  return () => shown.remove?.(message);
}

// They would lie over the form's first rows.
export function keepOffForm() {
  const form = document
    .querySelector("[data-testid=app-mode-widget-item]")
    ?.getBoundingClientRect();
  document.documentElement.style.setProperty(
    "--egox-form",
    form ? `${innerWidth - form.left}px` : "0px",
  );
}

// bottom: px, of what lies at their place; 0 when it has gone
export function keepBelow(bottom) {
  document.documentElement.style.setProperty("--egox-missing", `${bottom}px`);
}
