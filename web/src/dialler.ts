// Opens the line of a call: finds a place, shows what lets the call in there, and waits until the websocket is open.

import { fetchInfo } from "./info";
import { type Place, fetchPlaces, placeAt } from "./places";
import { type CallError, LOST, NOT_TAKEN, UNREACHABLE } from "./problems";
import type { Return } from "./return";

const PATIENCE_MILLISECONDS = 20_000;
/** The same where the conversation waits for it: an attempt that hangs must leave time for others. */
const PATIENCE_BACK_MILLISECONDS = 5000;

export class Dialler {
  readonly #token: string;
  /** Whether a cluster says where there are places; those that it has named and that are left. */
  readonly #placed: boolean;
  #places: Place[] = [];
  #attempts = 0;
  #attempt = new AbortController();

  /** `token` is what the server asks for, if it does. */
  constructor(token: string, placed: boolean) {
    this.#token = token;
    this.#placed = placed;
  }

  /** Whether there are places left to try. */
  get more(): boolean {
    return this.#places.length > 0;
  }

  /** Gives up what is being tried. */
  cancel(): void {
    this.#attempt.abort();
  }

  /** Opens a websocket; `query` is what is asked for in its address. */
  async dial(query: Iterable<[string, string]>, back: Return): Promise<WebSocket> {
    const attempt = (this.#attempt = new AbortController());
    const patience = setTimeout(() => attempt.abort(), back.known ? PATIENCE_BACK_MILLISECONDS : PATIENCE_MILLISECONDS);
    try {
      const { url, ticket } = await this.#place(back, attempt.signal);
      if (attempt.signal.aborted) throw UNREACHABLE;
      back.base = url;
      const address = new URL("api/chat", url || document.baseURI);
      address.protocol = address.protocol.replace("http", "ws");
      for (const [name, words] of [...query, ["ticket", ticket] as const, ...back.query])
        if (words) address.searchParams.set(name, words);
      return await opened(new WebSocket(address), attempt.signal, back.known);
    } finally {
      clearTimeout(patience);
    }
  }

  /** Where to call next. Who comes back asks where the call is, and in turn at the cluster, which may know better. */
  async #place(back: Return, signal: AbortSignal): Promise<Place> {
    if (!this.#placed || (back.known && this.#attempts++ % 2 === 0)) return placeAt(back.base, this.#token, signal);
    // Who has waited in a queue finds the tickets for the other places out of date.
    this.#places = this.#places.filter(({ until }) => until > performance.now());
    if (back.known || !this.more) this.#places = await fetchPlaces(this.#token, back.known ? back.base : "", signal);
    return this.#places.shift() ?? { url: "", ticket: "", until: Infinity };
  }
}

async function opened(socket: WebSocket, signal: AbortSignal, back: boolean): Promise<WebSocket> {
  socket.binaryType = "arraybuffer";
  await new Promise<void>((resolve, reject) => {
    socket.onopen = () => resolve();
    socket.onclose = () => void (back ? Promise.resolve(LOST) : refusal()).then(reject);
    signal.onabort = () => {
      socket.onclose = null;
      socket.close();
      reject(UNREACHABLE);
    };
  });
  signal.onabort = null;
  return socket;
}

/** Why a websocket did not open: browsers do not say whether there was an answer. */
async function refusal(): Promise<CallError> {
  return fetchInfo().then(
    () => NOT_TAKEN,
    () => UNREACHABLE,
  );
}
