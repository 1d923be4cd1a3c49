// The preview's looks, in the page's own colours, so that every theme fits.

import { addCss } from "../editor/view/elements.mjs";

const STYLE = `
.egox-preview { display: flex; flex-direction: column; gap: 4px; width: 100%; height: 100%; box-sizing: border-box;
  font: 12px/1.3 sans-serif; color: var(--input-text, #ddd); overflow: hidden; }
.egox-preview:focus, .egox-preview-stage:focus { outline: none; }
.egox-preview-stage:focus-visible { outline: 2px solid var(--p-primary-color, #4a9eff); outline-offset: -2px; }
.egox-preview:fullscreen { padding: 12px; background: var(--comfy-menu-bg, #111); }
.egox-preview-bar { display: flex; flex-wrap: wrap; gap: 4px; align-items: center; flex: none; min-width: 0; }
.egox-preview [hidden] { display: none !important; }
.egox-preview select, .egox-preview button { font: inherit; color: inherit;
  background: var(--component-node-widget-background, var(--comfy-input-bg, #222));
  border: 1px solid var(--component-node-border, var(--border-color, #4e4e4e)); border-radius: 4px; padding: 2px 6px;
  height: 24px; min-width: 0;
  cursor: pointer; }
.egox-preview select { flex: 1 1 180px; text-overflow: ellipsis; }
.egox-preview select.egox-preview-item { flex: 0 1 64px; }
.egox-preview-view { display: flex; flex-wrap: wrap; flex: 1 1 100%; gap: 2px; }
.egox-preview button.egox-preview-tab { width: auto; height: 20px; padding: 0 6px; border-color: transparent;
  font-size: 11px; }
.egox-preview select.egox-preview-factor { flex: 0 1 64px; }
.egox-preview-about { flex: none; max-height: 63px; overflow-y: auto; overflow-wrap: anywhere; user-select: text; }
.egox-preview button { flex: none; width: 30px; padding: 0; }
.egox-preview-full svg { vertical-align: middle; }
.egox-preview button:is(.egox-preview-make, .egox-preview-save, .egox-preview-alone, .egox-preview-seen) { width: auto;
  padding: 0 8px; }
.egox-preview button:is(.egox-preview-tab[aria-selected="true"], .egox-preview-seen[aria-pressed="true"]) { color: #fff;
  background: var(--p-primary-color, #2f6fbf); border-color: var(--p-primary-color, #2f6fbf); }
.egox-preview button:disabled { opacity: 0.5; cursor: default; }
.egox-preview :is(select, button, input, summary):focus-visible { outline: 2px solid var(--p-primary-color, #4a9eff); }
.egox-preview-stage { position: relative; flex: 1 1 auto; min-height: 80px;
  background: var(--component-node-widget-background, var(--comfy-input-bg, #222));
  border-radius: 4px; overflow: hidden; touch-action: none; }
.egox-preview:where(:has(.egox-preview-seen[aria-pressed="true"]:not([hidden]))) .egox-preview-stage { min-height: 144px; }
[data-node-id] .egox-preview-own .egox-preview-stage { min-height: 144px; }
[data-testid="app-mode-widget-item"] .egox-preview { height: auto; }
[data-testid="app-mode-widget-item"] .egox-preview-stage { min-height: 240px; }
.egox-preview-old .egox-preview-stage { filter: grayscale(1) opacity(0.4); }
.egox-preview-stage canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
.egox-preview-message { position: absolute; inset: 0; display: flex; align-items: center; justify-content: center;
  text-align: center; padding: 12px; color: var(--descrip-text, #999); }
.egox-preview-wipe { position: absolute; top: 0; bottom: 0; width: 25px; margin-left: -12px; cursor: ew-resize; }
.egox-preview-wipe::after { content: ""; position: absolute; left: 4px; top: 50%; width: 13px; height: 13px;
  margin-top: -8px; border-radius: 50%; border: 2px solid #fff; background: rgba(0, 0, 0, 0.55); }
.egox-preview-time { display: flex; gap: 6px; align-items: center; flex: none; }
.egox-preview-track { position: relative; flex: 1 1 auto; min-width: 40px; display: flex; flex-direction: column; }
.egox-preview-track canvas { width: 100%; height: 18px; display: block; }
.egox-preview-track input { width: 100%; margin: 0; height: 16px; accent-color: var(--p-primary-color, #4a9eff); }
.egox-preview-now { flex: none; min-width: 56px; text-align: right; font-variant-numeric: tabular-nums;
  white-space: pre-line; }
.egox-preview-badge { flex: none; padding: 2px 8px; border-radius: 4px; background: #f2c230; color: #201a00;
  font-weight: 600; }
.egox-preview-badge[hidden] { display: none; }
.egox-preview-note { flex: 0 1000 auto; min-height: 47px; max-height: 94px; overflow-y: auto; color: var(--descrip-text, #999);
  white-space: pre-line; overflow-wrap: anywhere; user-select: text; }
.egox-preview-result > .egox-preview-note { max-height: max(94px, 30%); }
.egox-preview-result > .egox-preview-note:has([open]) { max-height: max(94px, 60%); }
[data-testid="app-mode-widget-item"] :is(.egox-preview-about, .egox-preview-note) { max-height: none; }
.egox-preview-facts summary { cursor: pointer; }
`;

export const addStyle = () => addCss("egox-preview-style", STYLE);
