// What tells a player how both eyes lie in a file: _180_LR of half a sphere, _LR of a flat film.
// Other names stay.
export const nameOfEyes = (name, layout) =>
  name.replace(/(_180)?_LR(?![a-z])/i, layout === "VR180" ? "_180_LR" : "_LR");
