// The page: one button, what it does now, and the keys.

import { keepAwake } from "./awake";
import { Call } from "./call";
import { askConsent } from "./consent";
import { fetchInfo } from "./info";
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

async function start(): Promise<void> {
  if (call) return;
  if (settings.incomplete) {
    complain(TOKEN_WANTED);
    settings.askForToken(true);
    settings.focusToken();
    return;
  }
  complain(null);
  const recording = settings.recorded ? await askConsent(settings.recordingOptional) : "";
  if (recording === null || call) return;
  view.asking(settings.model.kind);
  call = new Call(view, settings.token, { ...settings.wishes, recording }, placed);
  arrange();
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
  const place = document.activeElement;
  write("talk-label", talking ? "End the call" : call ? "Cancel" : "Start talking");
  talk.dataset.on = String(call !== null);
  show("talk-key", call !== null);
  mute.setAttribute("aria-pressed", String(call?.muted ?? false));
  show("mute", talking);
  keepAwake(talking);
  show("save", !call && !recording.empty);
  show("settings", !call);
  settings.askForToken(!call && phase === "idle");
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
  if (call) call.end();
  else void start();
});
mute.addEventListener("click", toggleMute);
element("save").addEventListener("click", save);
element("choices").addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.altKey || event.ctrlKey || event.metaKey || event.isComposing) return;
  if ((document.activeElement as HTMLElement).matches("input, textarea, select")) return;
  // With Caps Lock the key is M; an event of a password manager has none.
  if (/^m$/i.test(event.key)) toggleMute();
  else if (event.key === "Escape") call?.end();
});
window.addEventListener("pagehide", () => call?.end());

if (!navigator.mediaDevices) complain(INSECURE);
void fetchInfo().then(
  (info) => {
    settings.take(info);
    placed = info.placed ?? false;
    show("recorded", info.recorded);
    if (info.recording_optional) write("recorded", "This server records the conversations of those who agree.");
    arrange();
  },
  () => complain(UNREACHABLE),
);
