/* The protocol: requests, the revision that each change carries, and errors as sentences. */

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Status of a request that got no answer at all. */
export const OFFLINE = 0;
/** Status of a change that another tab has overtaken. */
export const CONFLICT = 412;
const TRIES = 4;

export class Api {
  /** Revision of the project that this tab has seen; changes are refused if there is a later one. */
  revision = 0;
  /** Digest of the video that this tab shows. All addresses have it: the server, or the browser's cache, may have another by then. */
  source = null;
  #queue = Promise.resolve();

  async project() {
    const project = await (await this.#request("GET", "project")).json();
    this.revision = project.revision;
    this.source = project.source;
    return project;
  }

  async json(path) {
    return (await this.#request("GET", path)).json();
  }

  /** Return {buffer, etag}, whose buffer is null if there is no mask. */
  async mask(frame) {
    const answer = await this.#request("GET", `masks/${frame}.png`);
    const buffer = answer.status === 204 ? null : await answer.arrayBuffer();
    return { buffer, etag: answer.headers.get("ETag") ?? "none" };
  }

  async picture(path) {
    return (await this.#request("GET", path)).blob();
  }

  /** Return the mask that a prompter makes of hints, as a PNG; nothing is stored. */
  async hint(hints) {
    return (await this.#send("POST", "hints", hints)).arrayBuffer();
  }

  /** Make one change after the other, each with the revision that the one before has left. */
  change(method, path, body) {
    return this.inTurn(() => this.changeNow(method, path, body));
  }

  /** The same within a task that has its turn. */
  changeNow(method, path, body) {
    return this.#send(method, path, body);
  }

  /** The same for changes that stay right whatever another tab did: tried again on top of it. */
  changeAnyway(method, path, body, overtaken) {
    return this.inTurn(async () => {
      for (let tries = 1; ; tries++) {
        try {
          return await this.#send(method, path, body);
        } catch (error) {
          if (error.status !== CONFLICT || tries === TRIES) throw error;
          await overtaken();
        }
      }
    });
  }

  /** Run `task` when the changes before it are made. */
  inTurn(task) {
    const result = this.#queue.then(task);
    this.#queue = result.catch(() => {});
    return result;
  }

  /** Return the address of something of this tab's video. */
  address(path) {
    const of = this.source === null ? "" : `${path.includes("?") ? "&" : "?"}of=${this.source}`;
    return `/api/${path}${of}`;
  }

  async #send(method, path, body) {
    const binary = body instanceof Blob;
    const headers = { "If-Match": String(this.revision) };
    if (body !== undefined) headers["Content-Type"] = binary ? body.type : "application/json";
    const answer = await this.#request(method, path, { headers, body: binary ? body : JSON.stringify(body) });
    const revision = Number(answer.headers.get("X-Revision"));
    if (revision > this.revision) this.revision = revision;
    return answer;
  }

  async #request(method, path, options = {}) {
    let answer;
    try {
      answer = await fetch(this.address(path), { method, ...options });
    } catch {
      throw new ApiError("The server does not answer.", OFFLINE);
    }
    if (!answer.ok) throw new ApiError(await sentence(answer), answer.status);
    return answer;
  }
}

async function sentence(answer) {
  try {
    return (await answer.json()).error;
  } catch {
    return `The server answered ${answer.status} ${answer.statusText}.`;
  }
}
