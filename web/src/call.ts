// One call: a websocket, and the sound in both directions.

import { type Coding, makeCoding } from "./coding";
import type { Consent } from "./consent";
import { fetchInfo } from "./info";
import {
  CallError,
  LOST,
  NOT_TAKEN,
  UNKNOWN_TOKEN,
  UNREACHABLE,
  codingProblem,
  ending,
  soundProblem,
} from "./problems";
import { type Place, fetchPlaces, placeAt } from "./places";
import { type BufferState, Sound } from "./sound";
import { BUSY, Return } from "./return";
import { Kind, type Told, encode, parse } from "./wire";

export interface Listener {
  /** There is a microphone; the server is asked for a place. */
  connecting(): void;
  queued(position: number): void;
  begun(): void;
  /** The connection has broken and another is being made, or the conversation goes on. */
  interrupted(broken: boolean): void;
  /** A piece of the user's voice, at 48 kHz. */
  userSound(sound: Float32Array, muted: boolean): void;
  agentSound(sound: Float32Array): void;
  told(event: Told): void;
  buffered(state: BufferState): void;
  /** Milliseconds to the server and back. */
  roundTrip(milliseconds: number): void;
  /** The call is over, or did not come about; `problem` says why, unless the user ended it. */
  ended(problem: CallError | null): void;
}

const LOST_CODE = 1006;
const PING_MILLISECONDS = 2000;
/** Pings in a row, 10 s, during which nothing was heard: the server says something every 5 s, and answers pings. */
const SILENT_PINGS = 5;
/** The same in a conversation that can be come back to, in which sound comes all the time. */
const SILENT_PINGS_TALKING = 2;

/** What is asked for in the address; empty words leave it to the server. */
export interface Wishes {
  model: string;
  instructions: string;
  voice: string;
  recording: Consent;
}

export class Call {
  #listener: Listener;
  #sound: Sound | null = null;
  #socket: WebSocket | null = null;
  #coding: Coding | null = null;
  #begun = false;
  #over = false;
  #error = "";
  /** When the ping was sent whose answer is awaited, 0 if none is. */
  #pinged = 0;
  /** Counted in pings, not by the clock: a machine that has slept hears what has come before it judges. */
  #silence = 0;
  #pings = 0;
  #return = new Return();
  #token = "";
  #wishes: Wishes = { model: "", instructions: "", voice: "", recording: "" };
  /** Whether a cluster says where there are places; those that it has named and that are left. */
  #placed = false;
  #places: Place[] = [];
  #attempts = 0;

  /** Asks for the microphone, then calls. `token` is what the server asks for, if it does. */
  constructor(listener: Listener, token: string, wishes: Wishes, placed: boolean) {
    this.#listener = listener;
    this.#token = token;
    this.#wishes = wishes;
    this.#placed = placed;
    void this.#start();
  }

  async #start(): Promise<void> {
    try {
      const coding = await this.#open();
      if (!this.#over) this.#listener.connecting();
      if (!this.#over) await this.#enter(coding);
    } catch (problem) {
      this.#finish(problem instanceof CallError ? problem : soundProblem(problem));
    }
    // Something may have opened after the end.
    if (this.#over) this.#release();
  }

  get muted(): boolean {
    return this.#sound?.muted ?? false;
  }

  set muted(muted: boolean) {
    if (this.#sound) this.#sound.muted = muted;
  }

  end(): void {
    this.#finish(null);
  }

  async #open(): Promise<Coding> {
    const coding = await makeCoding({
      onBytes: (bytes) => this.#send(Kind.audio, bytes),
      onSound: (sound) => this.#hearAgent(sound),
      onError: (problem) => this.#finish(codingProblem(problem)),
    });
    this.#coding = coding;
    this.#sound = await Sound.open({
      heard: (piece) => this.#hearUser(piece),
      buffered: (state) => this.#listener.buffered(state),
      stopped: (problem) => this.#finish(problem),
    });
    return coding;
  }

  /** Calls, at one place after the other until one takes the call. */
  async #enter(coding: Coding): Promise<void> {
    for (;;) {
      try {
        await this.#connect(coding);
        return;
      } catch (problem) {
        if (this.#over || !this.#places.length) throw problem;
      }
    }
  }

  /** Where to call next. Who comes back asks where the call is, and in turn at the cluster, which may know better. */
  async #place(): Promise<Place> {
    const back = this.#return.known;
    if (!this.#placed || (back && this.#attempts++ % 2 === 0)) return placeAt(this.#return.base, this.#token);
    if (back || !this.#places.length) this.#places = await fetchPlaces(this.#token, back ? this.#return.base : "");
    return this.#places.shift() ?? { url: "", ticket: "" };
  }

  async #connect(coding: Coding): Promise<void> {
    const { url, ticket } = await this.#place();
    if (this.#over) return;
    this.#return.base = url;
    const address = new URL("api/chat", url || document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    address.searchParams.set("format", coding.format);
    address.searchParams.set("events", "full");
    if (ticket) address.searchParams.set("ticket", ticket);
    for (const [name, words] of Object.entries(this.#wishes)) if (words) address.searchParams.set(name, words);
    for (const [name, words] of this.#return.query) address.searchParams.set(name, words);
    const socket = (this.#socket = new WebSocket(address));
    socket.binaryType = "arraybuffer";
    socket.onmessage = (event: MessageEvent<ArrayBuffer>) => this.#take(event.data, coding);
    await new Promise<void>((resolve, reject) => {
      socket.onopen = () => resolve();
      socket.onclose = () => void refusal().then(reject);
    });
    socket.onclose = (event) => this.#closed(event.code, coding);
    clearInterval(this.#pings);
    this.#silence = this.#pinged = 0;
    this.#pings = window.setInterval(() => this.#ping(), PING_MILLISECONDS);
  }

  #ping(): void {
    const most = this.#return.known ? SILENT_PINGS_TALKING : SILENT_PINGS;
    // Closed by this side, a websocket that is dead says so only after a while.
    if (++this.#silence > most && this.#coding) this.#closed(LOST_CODE, this.#coding);
    if (this.#pinged) return;
    this.#pinged = performance.now();
    this.#send(Kind.ping);
  }

  #take(data: ArrayBuffer, coding: Coding): void {
    const message = parse(data);
    if (!message || this.#over) return;
    this.#silence = 0;
    this.#return.count(message.kind);
    const { kind, payload } = message;
    if (kind === Kind.handshake) this.#begin(coding);
    else if (kind === Kind.audio) coding.decode(payload);
    else if (kind === Kind.ping) this.#answered();
    else if (kind === Kind.error) this.#error = new TextDecoder().decode(payload);
    else if (kind === Kind.metadata) this.#told(JSON.parse(new TextDecoder().decode(payload)) as Told);
  }

  /** Takes a ping: the answer to one of its own, or a sign that the server lives. */
  #answered(): void {
    if (!this.#pinged) return;
    this.#listener.roundTrip(performance.now() - this.#pinged);
    this.#pinged = 0;
  }

  #told(event: Told): void {
    if (event.type === "Queued") this.#listener.queued(event.position ?? 0);
    else if (event.type === "Session") this.#comeBack(event);
    else if (event.type === "Moved") this.#return.follow(event.url ?? "");
    else this.#listener.told(event);
  }

  #begin(coding: Coding): void {
    const header = coding.header();
    if (header) this.#send(Kind.audio, header);
    // At another server the sound of both sides begins anew, and the conversation does not.
    if (!this.#return.known) this.#listener.begun();
    this.#begun = true;
  }

  #comeBack(session: Told): void {
    if (this.#return.take(session)) this.#listener.interrupted(false);
    this.#begun = true;
  }

  async #resume(coding: Coding): Promise<void> {
    this.#begun = false;
    this.#listener.interrupted(true);
    clearInterval(this.#pings);
    const dead = this.#socket;
    if (dead) dead.onclose = dead.onmessage = null;
    dead?.close();
    for await (const _ of this.#return.attempts()) {
      if (this.#over) return;
      try {
        await this.#connect(coding);
        return;
      } catch (problem) {
        if (problem === UNKNOWN_TOKEN) return this.#finish(UNKNOWN_TOKEN);
      }
    }
    this.#finish(LOST);
  }

  #hearUser(piece: Float32Array<ArrayBuffer>): void {
    if (!this.#begun || this.#over) return;
    this.#listener.userSound(piece, this.muted);
    this.#coding?.encode(piece);
  }

  #hearAgent(sound: Float32Array): void {
    if (this.#over) return;
    this.#listener.agentSound(sound);
    this.#sound?.play(sound);
  }

  #send(kind: number, payload?: Uint8Array): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(encode(kind, payload));
  }

  #closed(code: number, coding: Coding): void {
    if (!this.#over && this.#return.possible(code)) {
      this.#error = "";
      void this.#resume(coding);
      return;
    }
    if (!this.#over && !this.#return.known && BUSY.includes(code) && this.#places.length) {
      this.#error = "";
      this.#enter(coding).catch((problem: unknown) => this.#finish(problem instanceof CallError ? problem : LOST));
      return;
    }
    if (this.#error) this.#finish(ending(code, this.#error));
    else this.#finish(code === 1000 ? null : LOST);
  }

  #finish(problem: CallError | null): void {
    if (this.#over) return;
    this.#over = true;
    this.#release();
    this.#listener.ended(problem);
  }

  #release(): void {
    clearInterval(this.#pings);
    this.#socket?.close(1000);
    this.#coding?.close();
    this.#sound?.close();
  }
}

/** Why a websocket did not open: browsers do not say whether there was an answer. */
async function refusal(): Promise<CallError> {
  return fetchInfo().then(
    () => NOT_TAKEN,
    () => UNREACHABLE,
  );
}
