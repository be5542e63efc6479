// The page: one button, what it does now, and the keys.

import { keepAwake } from "./awake";
import { Call } from "./call";
import { askConsent } from "./consent";
import { type Info, fetchInfo } from "./info";
import { element, show, write } from "./page";
import { type CallError, INSECURE, TOKEN_WANTED, UNKNOWN_TOKEN, UNREACHABLE } from "./problems";
import { Settings } from "./settings";
import { View } from "./view";

const talk = element<HTMLButtonElement>("talk");
const mute = element<HTMLButtonElement>("mute");
const view = new View(arrange, finished);
const settings = new Settings(() => void start(), chosen);
let call: Call | null = null;
let placed = false;
/** Of what the server tells of itself: the question that is under way, whether the answer is here, whether a call waits for it. */
let learnt: Promise<boolean> | null = null;
let known = false;
let waiting = false;

async function start(): Promise<void> {
  if (call || waiting) return;
  if (!known && !(await told())) return;
  if (settings.incomplete) {
    complain(TOKEN_WANTED);
    settings.askForToken(true);
    settings.focusToken();
    return;
  }
  complain(null);
  const recording = settings.recorded ? await askConsent(settings.recordingOptional) : "refused";
  if (recording === null || call) return;
  view.asking(settings.model.kind);
  call = new Call(view, settings.token, { ...settings.wishes, recording }, placed);
  arrange();
}

function stop(): void {
  if (call) call.end();
  else if (waiting) wait(false);
}

/**
 * Waits until the server has told of itself: a call before that would show no token and ask for no consent.
 * Resolves to false where it cannot be reached, or who waited has cancelled.
 */
async function told(): Promise<boolean> {
  complain(null);
  wait(true);
  const reached = await learn();
  const wanted = waiting;
  wait(false);
  return reached && wanted;
}

function wait(begun: boolean): void {
  waiting = begun;
  view.know({ phase: begun ? "connecting" : "idle" });
}

/** Asks the server what it is, once; again where it could not be reached. */
function learn(): Promise<boolean> {
  return (learnt ??= fetchInfo()
    .then(take)
    .catch(() => {
      learnt = null;
      complain(UNREACHABLE);
      return false;
    }));
}

function take(info: Info): boolean {
  settings.take(info);
  placed = info.placed ?? false;
  show("recorded", info.recorded);
  if (info.recording_optional) write("recorded", "This server records the conversations of those who agree.");
  arrange();
  known = true;
  return true;
}

function finished(problem: CallError | null): void {
  call = null;
  complain(problem);
  arrange();
  if (problem !== UNKNOWN_TOKEN) return;
  settings.askForToken(true);
  settings.focusToken();
}

/** Shows what can be done now. */
function arrange(): void {
  const { phase, recording } = view;
  const talking = phase === "talking";
  const busy = call !== null || waiting;
  const place = document.activeElement;
  write("talk-label", talking ? "End the call" : busy ? "Cancel" : "Start talking");
  talk.dataset.on = String(busy);
  show("talk-key", busy);
  mute.setAttribute("aria-pressed", String(call?.muted ?? false));
  show("mute", talking);
  keepAwake(talking);
  show("save", !busy && !recording.empty);
  show("settings", !busy);
  settings.askForToken(!busy && phase === "idle");
  // Who uses the keyboard would lose their place with what is hidden now.
  if (place && !place.getClientRects().length) talk.focus();
}

/** What was chosen decides what is told. */
function chosen(): void {
  const { name, kind, examples } = settings.model;
  write("talking-to", name);
  view.know({ kind });
  show("suggestions", examples.length > 0);
  element("examples").replaceChildren(
    ...examples.map((example) => {
      const item = document.createElement("li");
      item.textContent = `“${example}”`;
      return item;
    }),
  );
}

function complain(problem: CallError | null): void {
  show("problem", problem !== null);
  element("problem").replaceChildren(...(problem ? paragraphs(problem.title, problem.message) : []));
}

function paragraphs(...texts: string[]): HTMLElement[] {
  return texts.map((text) => {
    const made = document.createElement("p");
    made.textContent = text;
    return made;
  });
}

function toggleMute(): void {
  if (!call || view.phase !== "talking") return;
  call.muted = !call.muted;
  view.know({ muted: call.muted });
  arrange();
}

function save(): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(view.recording.wav());
  link.download = `duplex-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.wav`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

talk.addEventListener("click", (event) => {
  // The second click of a double click would undo the first.
  if (event.detail > 1) return;
  if (call || waiting) stop();
  else void start();
});
mute.addEventListener("click", toggleMute);
element("save").addEventListener("click", save);
element("choices").addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("keydown", (event) => {
  // A key that is held presses a button again and again, and the next thing that stands there.
  if (event.repeat && event.key === "Enter" && !(event.target instanceof HTMLTextAreaElement)) event.preventDefault();
  if (event.repeat || event.altKey || event.ctrlKey || event.metaKey || event.isComposing) return;
  if ((document.activeElement as HTMLElement).matches("input, textarea, select")) return;
  // With Caps Lock the key is M; an event of a password manager has none.
  if (/^m$/i.test(event.key)) toggleMute();
  else if (event.key === "Escape") stop();
});
window.addEventListener("pagehide", stop);

if (!navigator.mediaDevices) complain(INSECURE);
void learn();
