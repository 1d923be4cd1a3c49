// The editor's looks, in the page's own colours, so that every theme fits.
import { addCss } from "./elements.mjs";

const STYLE = `
.egox-ed-node { display: flex; flex-direction: column; gap: 4px; width: 100%; height: 100%; box-sizing: border-box;
  font: 12px/1.35 sans-serif; color: var(--input-text, #ddd); overflow: hidden; }
.egox-ed-node .egox-ed-button { width: 100%; height: 30px; flex: none; }
.egox-ed-question:not([hidden]) { display: flex; gap: 4px; }
.egox-ed-question .egox-ed-button { flex: 1 1 0; min-width: 0; }
.egox-ed-node-note { color: var(--descrip-text, #999); overflow: hidden; text-overflow: ellipsis; text-align: center;
  white-space: nowrap; }
[data-widget-key] .egox-ed-node-note { white-space: normal; }
.egox-ed-trim { display: none; }
[data-widget-key] .egox-ed-trim:not([hidden]) { display: flex; flex-wrap: wrap; gap: 4px; }
.egox-ed-trim :is(img, input, .egox-ed-node-note) { width: 100%; margin: 0; white-space: normal; text-align: left; }
.egox-ed-trim .egox-ed-trim-s { width: 100%; display: flex; justify-content: space-between; align-items: center; }
.egox-ed-trim .egox-ed-trim-s input { width: 90px; }
.egox-ed-lens { display: flex; align-items: center; gap: 6px; }
.egox-ed-lens[hidden], .egox-ed-node .egox-ed-lens { display: none; }
[data-widget-key] .egox-ed-lens:not([hidden]) { display: flex; }
.egox-ed-lens input { flex: 1; min-width: 60px; }
:is(.p-toast-top-right, ol:has(> [data-testid=toast])) { margin-right: var(--egox-form, 0px);
  margin-top: var(--egox-missing, 0px); }
[data-widget-key] .egox-ed-node { overflow: visible; height: auto; }
.egox-ed-node-fault { color: var(--error-text, #ff6b6b); }
.egox-ed-back { position: fixed; inset: 0; z-index: 3000; background: var(--comfy-menu-bg, #222); display: flex;
  box-sizing: border-box; }
.egox-ed { flex: 1; min-width: 0; display: grid; grid-template-columns: minmax(0, 1fr) 320px; gap: 8px; padding: 8px;
  grid-template-rows: auto minmax(0, 1fr) auto; box-sizing: border-box; overflow: hidden;
  background: var(--comfy-menu-bg, #222); color: var(--input-text, #ddd); font: 13px/1.35 sans-serif; }
.egox-ed [hidden] { display: none !important; }
.egox-ed:focus { outline: none; }
.egox-ed-head { grid-column: 1 / -1; display: flex; gap: 6px; align-items: center; flex-wrap: wrap; }
.egox-ed-head h2 { font: 600 15px/1.3 sans-serif; margin: 0 8px 0 2px; }
.egox-ed-gap { flex: 1; }
.egox-ed-button, .egox-ed-select, .egox-ed-number { font: inherit; color: inherit;
  background: var(--component-node-widget-background, var(--comfy-input-bg, #333));
  border: 1px solid var(--border-color, #4e4e4e); border-radius: 5px;
  height: 28px; padding: 0 9px; box-sizing: border-box; }
.egox-ed-button { cursor: pointer; white-space: nowrap; color: var(--input-text, #ddd); }
.egox-ed-button:hover:not(:disabled) { border-color: var(--p-primary-color, #4a9eff); }
.egox-ed-button:disabled { opacity: 0.4; cursor: default; }
.egox-ed-button.egox-ed-on { background: var(--p-primary-color, #2f6fbf); border-color: var(--p-primary-color, #2f6fbf);
  color: #fff; }
.egox-ed-select { padding: 0 4px; max-width: 150px; }
.egox-ed :is(button, select, input, [tabindex]):focus-visible { outline: 2px solid var(--p-primary-color, #4a9eff);
  outline-offset: 1px; }
.egox-ed-check { display: inline-flex; gap: 4px; align-items: center; cursor: pointer; white-space: nowrap; }
.egox-ed-check input { margin: 0; accent-color: var(--p-primary-color, #4a9eff); }
.egox-ed-main { position: relative; min-height: 0; border-radius: 6px; overflow: hidden; }
.egox-ed-main > canvas { position: absolute; inset: 0; width: 100%; height: 100%; display: block; touch-action: none; }
.egox-ed-main > canvas:focus-visible { outline-offset: -2px; }
.egox-ed-top { position: absolute; inset: 8px 8px auto; display: flex; flex-direction: column; gap: 8px;
  pointer-events: none; }
.egox-ed-tools { display: flex; gap: 4px; flex-wrap: wrap; pointer-events: none; }
.egox-ed-tools > * { pointer-events: auto; }
.egox-ed-tools .egox-ed-check { background: var(--component-node-widget-background, var(--comfy-input-bg, #333));
  border-radius: 5px; padding: 0 8px; height: 28px; }
.egox-ed-hint { color: var(--descrip-text, #999); font-size: 12px; }
.egox-ed-main > .egox-ed-hint { position: absolute; left: 10px; bottom: 6px; right: 10px; pointer-events: none;
  color: var(--input-text, #ddd); opacity: 0.75; }
.egox-ed-banner { pointer-events: auto; margin: 0 auto; width: fit-content; max-width: 560px;
  padding: 8px 12px; background: var(--component-node-widget-background, var(--comfy-input-bg, #333));
  border: 1px solid var(--border-color, #4e4e4e);
  border-radius: 6px; display: flex; gap: 10px; align-items: center; box-sizing: border-box; }
.egox-ed-empty { position: absolute; left: 50%; top: 50%; transform: translate(-50%, -50%); width: min(430px, 90%);
  text-align: center; padding: 16px; background: var(--comfy-menu-bg, #222);
  border: 1px solid var(--border-color, #4e4e4e); border-radius: 8px; box-sizing: border-box; }
.egox-ed-empty b { display: block; margin-bottom: 6px; font-size: 15px; }
.egox-ed-empty p { margin: 0 0 10px; }
.egox-ed-side { display: flex; flex-direction: column; gap: 8px; min-height: 0; overflow-y: auto; }
.egox-ed-panel { display: flex; flex-direction: column; gap: 4px; }
.egox-ed-panel-head { display: flex; flex-wrap: wrap; justify-content: space-between; align-items: center; gap: 6px;
  min-height: 28px; }
.egox-ed-picture { position: relative; background: #000; border-radius: 6px; overflow: hidden; aspect-ratio: 1;
  width: min(100%, max(160px, 100vh - 516px)); align-self: center; }
.egox-ed-picture canvas { position: absolute; inset: 0; width: 100%; height: 100%; display: block; }
.egox-ed-picture-exo { aspect-ratio: var(--egox-aspect, 1.75); width: auto; align-self: stretch;
  max-width: calc(max(280px, 100vh - 620px) * var(--egox-aspect, 1.75)); }
.egox-ed-message { position: absolute; inset: 0; display: flex; align-items: center; justify-content: center;
  text-align: center; padding: 14px; color: #bbb; pointer-events: none; }
.egox-ed-badge { padding: 1px 7px; border-radius: 4px; background: #f2c230; color: #201a00; font-weight: 600;
  font-size: 12px; cursor: help; }
.egox-ed-large { grid-template-columns: 320px minmax(0, 1fr); }
.egox-ed-large .egox-ed-top { bottom: 30px; justify-content: space-between; }
.egox-ed-large .egox-ed-banner { flex-wrap: wrap; }
.egox-ed-large .egox-ed-side { flex-direction: row-reverse; }
.egox-ed-large .egox-ed-panel { flex: 0 0 240px; min-width: 0; }
.egox-ed-large .egox-ed-panel + .egox-ed-panel { flex: 1; max-width: calc((100vh - 300px) * var(--egox-aspect, 1.75)); }
.egox-ed-large .egox-ed-picture-exo { max-width: none; }
.egox-ed-loupe { position: fixed; z-index: 1; border-radius: 50%; border: 2px solid #ffb000; pointer-events: none;
  box-shadow: 0 2px 10px #000a; }
.egox-ed-note { color: var(--descrip-text, #999); font-size: 12px; min-height: 16px; }
.egox-ed-foot { grid-column: 1 / -1; display: flex; flex-direction: column; gap: 6px; min-width: 0; }
.egox-ed-row, .egox-ed-fields { display: flex; gap: 6px; align-items: center; flex-wrap: wrap; }
.egox-ed-now { font-variant-numeric: tabular-nums; min-width: 118px; }
.egox-ed-track { position: relative; height: 44px; margin-top: 6px; border-radius: 6px;
  background: var(--component-node-widget-background, var(--comfy-input-bg, #333));
  touch-action: none; cursor: pointer; user-select: none; }
.egox-ed-ruler { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
.egox-ed-cursor { position: absolute; top: 0; bottom: 0; width: 2px; margin-left: -1px;
  background: var(--p-primary-color, #4a9eff); pointer-events: none; }
.egox-ed-keys { position: absolute; inset: 0; pointer-events: none; }
.egox-ed-key { position: absolute; top: 50%; width: 26px; height: 30px; margin: -13px 0 0 -13px; padding: 0; border: 0;
  background: none; pointer-events: auto; cursor: ew-resize; touch-action: none; }
.egox-ed-key::after { content: ""; position: absolute; left: 7px; top: 9px; width: 12px; height: 12px;
  box-sizing: border-box; background: #ffb000; border: 1px solid #5a3d00; transform: rotate(45deg); }
.egox-ed-key[data-mode="linear"]::after { border-radius: 0;
  background: linear-gradient(45deg, #ffb000 50%, #fff2cc 50%); }
.egox-ed-key[data-mode="hold"]::after { transform: none; }
.egox-ed-key[data-mode="look"] { margin-top: -23px; }
.egox-ed-key[data-mode="look"]::after { transform: none; border-radius: 50%; background: #ff4060; }
.egox-ed-key.egox-ed-now-key::after { box-shadow: 0 0 0 2px var(--p-primary-color, #4a9eff); }
.egox-ed-field { display: inline-flex; gap: 4px; align-items: center; }
.egox-ed-number { width: 84px; padding: 0 4px; font-variant-numeric: tabular-nums; }
.egox-ed-unit { color: var(--descrip-text, #999); }
.egox-ed-files { display: inline-flex; gap: 6px; }
.egox-ed-status { color: var(--descrip-text, #999); order: 1; flex: 1 0 100%; min-height: 1.3em; }
.egox-ed-status .egox-ed-button { margin-left: 8px; }
@media (max-height: 760px) and (min-width: 861px) {
  .egox-ed:not(.egox-ed-large) { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
  .egox-ed:not(.egox-ed-large) .egox-ed-side { flex-direction: row; }
  .egox-ed:not(.egox-ed-large) .egox-ed-panel { flex: 0 0 160px; min-width: 0; }
  .egox-ed:not(.egox-ed-large) .egox-ed-panel + .egox-ed-panel { flex: 1; }
  .egox-ed:not(.egox-ed-large) .egox-ed-picture-exo { max-width: calc((100vh - 380px) * var(--egox-aspect, 1.75)); }
}
@media (max-width: 860px) {
  .egox-ed { grid-template-columns: minmax(0, 1fr); grid-template-rows: auto minmax(240px, 1fr) auto auto;
    overflow-y: auto; }
  .egox-ed-side { flex-direction: row; overflow: visible; }
  .egox-ed-side > .egox-ed-panel { flex: 1 1 0; min-width: 0; }
}
@media (pointer: coarse) {
  .egox-ed-button, .egox-ed-select, .egox-ed-number { height: 36px; }
  .egox-ed-track { height: 54px; }
}
`;

export const addStyle = () => addCss("egox-editor-style", STYLE);
