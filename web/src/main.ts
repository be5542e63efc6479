// The page: one button, what is said, who speaks, and how the line is.

import { Call, type Listener, samplesPerFrame } from "./call";
import { type CallError, UNREACHABLE } from "./problems";
import { Recording } from "./recording";
import { type BufferState, level } from "./sound";
import { Timeline } from "./timeline";
import type { Told } from "./wire";
import { Words } from "./words";

interface Info {
  model: string;
  sessions: number;
  token: boolean;
  recorded: boolean;
  persona: boolean;
  voices?: string[];
}

const element = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const talk = element<HTMLButtonElement>("talk");
const mute = element<HTMLButtonElement>("mute");
const save = element<HTMLButtonElement>("save");
const status = element("status");
const problem = element("problem");
const kept = element("kept");
const words = new Words(element("words"));
const tokenField = element<HTMLFormElement>("token-field");
const token = element<HTMLInputElement>("token");
const persona = element<HTMLFormElement>("persona");
const instructions = element<HTMLTextAreaElement>("instructions");
const voice = element<HTMLSelectElement>("voice");
const timeline = new Timeline(element<HTMLCanvasElement>("lanes"));

let call: Call | null = null;
let recording = new Recording();
let starting = false;

/** What the page shows of a call. */
class View implements Listener {
  #user = 0;
  #agent = 0;
  #samples = 0;
  #lost = 0;

  queued(position: number): void {
    say(position === 1 ? "You are next in the queue." : `You are number ${position} in the queue.`);
  }

  begun(): void {
    // What was kept of the call before goes only now: this one has come about.
    recording = new Recording();
    able(save, false);
    kept.textContent = "";
    timeline.clear();
    words.clear();
    say("Talk: it listens.");
    able(mute, true);
    document.body.dataset.state = "talking";
  }

  userSound(sound: Float32Array): void {
    recording.hearUser(sound);
    // Once, or it would be read aloud again and again.
    if (recording.cut && !kept.textContent) kept.textContent = "Only the last hour is kept in the recording.";
    this.#user = Math.max(this.#user, level(sound));
    this.#samples += sound.length;
    if (this.#samples < samplesPerFrame) return;
    this.#samples -= samplesPerFrame;
    timeline.add(this.#user, this.#agent);
    meter("user-level", this.#user);
    meter("agent-level", this.#agent);
    this.#user = this.#agent = 0;
  }

  agentSound(sound: Float32Array): void {
    recording.hearAgent(sound);
    this.#agent = Math.max(this.#agent, level(sound));
  }

  told(event: Told): void {
    switch (event.type) {
      case "AgentText":
        words.write(event.text ?? "");
        break;
      case "UserText":
        words.hear(event.text ?? "");
        break;
      case "UserSpeechStarted":
        words.beginUser();
        speaks("user", true);
        break;
      case "UserSpeechStopped":
        speaks("user", false);
        break;
      case "AgentSpeechStarted":
        speaks("agent", true);
        break;
      case "AgentSpeechStopped":
        speaks("agent", false);
        break;
      case "Lag":
        if (event.side === "transcript") break; // nothing of the call itself was lost
        this.#lost += event.dropped ?? 0;
        show("lag", `${this.#lost.toFixed(2)} s`);
        break;
      case "SessionStarted":
        show("model", event.model ?? "");
        show("lag", "0 s");
    }
  }

  buffered(state: BufferState): void {
    show("buffer", `${Math.round(state.seconds * 1000)} ms`);
    show("drift", `${(state.correction * 100).toFixed(2)} %`);
  }

  roundTrip(milliseconds: number): void {
    show("network", `${Math.round(milliseconds)} ms`);
  }

  ended(error: CallError | null): void {
    call = null;
    words.endTurn();
    say(error ? "" : "The conversation is over.");
    complain(error?.message ?? "");
    speaks("user", false);
    speaks("agent", false);
    meter("user-level", 0);
    meter("agent-level", 0);
    document.body.dataset.state = "idle";
    able(mute, false);
    able(save, !recording.empty);
    button();
  }
}

async function start(): Promise<void> {
  if (call || starting) return;
  const secret = token.value.trim();
  if (!tokenField.hidden && !secret) {
    complain("This server asks for a token. Type it in, then press Talk.");
    token.focus();
    return;
  }
  starting = true;
  complain("");
  say("Allow the microphone, please.");
  button();
  call = await Call.start(new View(), secret, { instructions: instructions.value.trim(), voice: voice.value });
  if (call) say("Waiting for the server.");
  starting = false;
  button();
}

function button(): void {
  talk.textContent = call ? "Hang up" : "Talk";
  able(talk, !starting);
  talk.dataset.on = String(call !== null);
  mute.setAttribute("aria-pressed", String(call?.muted ?? false));
}

/** Says whether a button can be used. It keeps the focus if not: who uses the keyboard would lose their place. */
function able(button: HTMLButtonElement, can: boolean): void {
  button.setAttribute("aria-disabled", String(!can));
}

function isAble(button: HTMLButtonElement): boolean {
  return button.getAttribute("aria-disabled") !== "true";
}

function say(text: string): void {
  status.textContent = text;
}

function complain(text: string): void {
  problem.textContent = text;
  problem.hidden = !text;
}

function show(id: string, text: string): void {
  element(id).textContent = text;
}

function meter(id: string, value: number): void {
  element<HTMLMeterElement>(id).value = value;
}

function speaks(side: "user" | "agent", speaking: boolean): void {
  const ending = side === "agent" ? "s" : "";
  element(`${side}-speaks`).textContent = (speaking ? "speak" : "listen") + ending;
  element(`${side}-speaks`).dataset.on = String(speaking);
}

talk.addEventListener("click", (event) => {
  // The second click of a double click would undo the first.
  if (event.detail > 1) return;
  if (call) call.end();
  else void start();
});
mute.addEventListener("click", () => {
  if (call && isAble(mute)) call.muted = !call.muted;
  button();
});
tokenField.addEventListener("submit", (event) => {
  event.preventDefault();
  void start();
});
persona.addEventListener("submit", (event) => event.preventDefault());
save.addEventListener("click", () => {
  if (!isAble(save)) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(recording.wav());
  link.download = `duplex-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.wav`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
});
document.addEventListener("keydown", (event) => {
  const alone = !event.repeat && !event.altKey && !event.ctrlKey && !event.metaKey;
  // With Caps Lock the key is M; an event of a password manager has none.
  if (alone && /^m$/i.test(event.key) && !(document.activeElement as HTMLElement).matches("input, textarea, select")) mute.click();
});
window.addEventListener("pagehide", () => call?.end());

void fetch("api/info")
  .then((answer) => answer.json() as Promise<Info>)
  .then((info) => {
    show("model", info.model);
    tokenField.hidden = !info.token;
    element("recorded").hidden = !info.recorded;
    persona.hidden = !info.persona;
    voice.append(...(info.voices ?? []).map((name) => new Option(name)));
  })
  .catch(() => complain(UNREACHABLE));
timeline.draw();
