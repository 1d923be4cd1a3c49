// What is asked of the server, see nodes/page/routes.py.

const PREFIX = "/egox/pose_editor/";

// The server let the scene go: a run brings it back.
export class SceneGone extends Error {}

export class Server {
  constructor(api) {
    this.api = api;
  }

  async post(name, body) {
    const answer = await this.api.fetchApi(PREFIX + name, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (answer.ok) return answer;
    // What isn't from these routes has no more than its status.
    const { reason = `${answer.status} ${answer.statusText}` } = await answer
      .json()
      .catch(() => ({}));
    throw answer.status === 410 ? new SceneGone(reason) : new Error(reason);
  }

  async json(name, body) {
    return (await this.post(name, body)).json();
  }

  // Points as { xyz: Float32Array, rgb: Uint8Array, count }.
  async cloud(body) {
    const bytes = await (await this.post("cloud", body)).arrayBuffer();
    const count = bytes.byteLength / 15; // 12 bytes of place and 3 of colour
    return {
      xyz: new Float32Array(bytes, 0, count * 3),
      rgb: new Uint8Array(bytes, count * 12, count * 3),
      count,
    };
  }

  async picture(name, body) {
    const answer = await this.post(name, body);
    if (answer.status === 204) return null;
    return { blob: await answer.blob(), coverage: Number(answer.headers.get("X-EgoX-Coverage")) };
  }
}

// Asks with the newest wish only: while one request is under way, later wishes replace each other.
export class LatestOnly {
  constructor(ask, onError) {
    Object.assign(this, { ask, onError });
    this.wish = null;
    this.busy = false;
  }

  want(wish) {
    this.wish = { wish };
    this.go();
  }

  async go() {
    if (this.busy) return;
    this.busy = true;
    while (this.wish) {
      const { wish } = this.wish;
      this.wish = null;
      try {
        await this.ask(wish);
      } catch (error) {
        this.onError(error);
      }
    }
    this.busy = false;
  }
}
