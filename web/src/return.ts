// Coming back to a conversation whose connection has broken (docs/reference/wire.md).

import { Kind, type Told } from "./wire";

/** Close codes of a connection that was lost: by itself, by who stands between, or by a server without a place. */
const LOST = [1005, 1006, 1001];
export const BUSY = [1012, 1013];
/** Milliseconds before each attempt; the last one before all further ones, too. */
const PAUSES = [0, 200, 400, 800, 1500];
const COUNTED: number[] = [Kind.audio, Kind.text, Kind.metadata, Kind.error];

export class Return {
  #token = "";
  #milliseconds = 0;
  #received = 0;
  #moved = false;
  #until = 0;
  /** Attempts since the server last said how to come back. */
  #tries = 0;
  /** Of the server that the conversation is at, empty for that of the page. */
  base = "";

  /** Whether the server has said how to come back. */
  get known(): boolean {
    return this.#token !== "";
  }

  get query(): [string, string][] {
    return this.known
      ? [
          ["resume", this.#token],
          ["received", String(this.#received)],
        ]
      : [];
  }

  /** Counts what has come, as the server does. */
  count(kind: number): void {
    if (this.known && !this.#until && COUNTED.includes(kind)) this.#received++;
  }

  /** Takes what the server says about coming back; tells whether this is after an interruption. */
  take(session: Told): boolean {
    const again = this.known;
    if (again && !this.#until) this.#received--;
    this.#token = session.resume ?? "";
    this.#milliseconds = 1000 * (session.seconds ?? 0);
    this.#until = this.#tries = 0;
    return again;
  }

  /** Notes that the conversation goes on elsewhere. */
  follow(url: string): void {
    this.#received--;
    const there = new URL(url, document.baseURI);
    if (location.protocol === "https:" && there.protocol !== "https:") return;
    this.base = there.href.endsWith("/") ? there.href : `${there.href}/`;
    this.#moved = true;
  }

  possible(code: number): boolean {
    return this.known && (this.#moved || LOST.includes(code) || (this.#until > 0 && BUSY.includes(code)));
  }

  /** Gives turns to try, for as long as the server waits. */
  async *attempts(): AsyncGenerator<void> {
    this.#moved = false;
    this.#until ||= performance.now() + this.#milliseconds;
    for (;;) {
      const pause = PAUSES[Math.min(this.#tries++, PAUSES.length - 1)]!;
      if (performance.now() + pause > this.#until) return;
      await new Promise((resume) => setTimeout(resume, pause));
      yield;
    }
  }
}
