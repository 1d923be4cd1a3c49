// What the server takes, and how much at once. Its own answer to more is a number, 413, and a page
// may not even get that far.

import { toast } from "../toasts.mjs";

export const UPLOAD = "/egox/upload";
const MEGABYTE = 2 ** 20;

const UNKNOWN = { limit: Infinity, suffixes: [], files: Infinity };

let asked = null;

// { limit: bytes, suffixes: [".mp4", …], files: how many }; without an answer there is no limit to
// speak of, and the server will say so itself.
export function takenBy(api) {
  asked ??= api.fetchApi(UPLOAD).then(
    (answer) => (answer.ok ? answer.json() : UNKNOWN),
    () => UNKNOWN,
  );
  return asked;
}

export const sizeOf = (files) => files.reduce((sum, { size }) => sum + size, 0);

export const megabytes = (bytes) => Math.ceil(bytes / MEGABYTE);

export function tooLarge(say, size, limit) {
  const words = {
    size: megabytes(size),
    limit: Math.floor(limit / MEGABYTE),
    wanted: megabytes(size) + 1,
  };
  return say("tooLarge", words);
}

// The host's own uploads (a video by the button of Load Exo Video) go as they did; what is too
// large for them is said.
export function nameLimit(app, api, say) {
  const { fetchApi } = api;
  api.fetchApi = function (route, options) {
    if (
      typeof route === "string" &&
      route.startsWith("/upload/") &&
      options?.body instanceof FormData
    ) {
      const size = sizeOf([...options.body.values()].filter((value) => value instanceof Blob));
      takenBy(api).then(
        ({ limit }) => size > limit && toast(app, "error", tooLarge(say, size, limit)),
      );
    }
    return fetchApi.apply(this, arguments);
  };
}
