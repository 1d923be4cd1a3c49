// A change that a script made, as one step of the host's undo.
export function noteChange(app) {
  app.graph?.change?.();
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
  if (tracker?.captureCanvasState) tracker.captureCanvasState();
  else tracker?.checkState?.();
}
