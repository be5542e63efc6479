// What can be chosen before a call: the model, who the agent is, its voice; and the token, where the server wants one.

import type { Wishes } from "./call";
import type { Info, ModelInfo } from "./info";
import { element, show } from "./page";

const NONE: ModelInfo = { name: "", kind: "moshi", persona: false, voices: [], examples: [] };

export class Settings {
  readonly #form = element<HTMLFormElement>("token-form");
  readonly #token = element<HTMLInputElement>("token");
  readonly #model = element<HTMLSelectElement>("model");
  readonly #instructions = element<HTMLTextAreaElement>("instructions");
  readonly #voice = element<HTMLSelectElement>("voice");
  readonly #announce = element<HTMLInputElement>("announce");
  #info: Info = { token: false, recorded: false, recording_optional: false, models: [NONE] };
  #changed: () => void;

  /** `start` is what to do when a token has been typed in, `changed` when another model has been chosen. */
  constructor(start: () => void, changed: () => void) {
    this.#changed = changed;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      start();
    });
    this.#model.addEventListener("change", () => this.#choose());
    this.#announce.addEventListener("change", () => {
      element("words").setAttribute("aria-live", this.#announce.checked ? "polite" : "off");
    });
  }

  take(info: Info): void {
    this.#info = info;
    this.#model.replaceChildren(...info.models.map(({ name }) => new Option(name)));
    show("model-choice", info.models.length > 1);
    this.#choose();
  }

  get model(): ModelInfo {
    return this.#info.models[this.#model.selectedIndex] ?? this.#info.models[0] ?? NONE;
  }

  get recorded(): boolean {
    return this.#info.recorded;
  }

  get recordingOptional(): boolean {
    return this.#info.recording_optional;
  }

  /** Whether a token must be typed in first. */
  get incomplete(): boolean {
    return this.#info.token && !this.token;
  }

  get token(): string {
    return this.#token.value.trim();
  }

  /** Asks for the token: it is wanted and has not let its owner in yet. */
  askForToken(asked: boolean): void {
    show("token-form", asked && this.#info.token);
  }

  focusToken(): void {
    this.#token.focus();
    this.#token.select();
  }

  get wishes(): Omit<Wishes, "recording"> {
    const { name, persona } = this.model;
    const model = this.#info.models.length > 1 ? name : "";
    if (!persona) return { model, instructions: "", voice: "" };
    return { model, instructions: this.#instructions.value.trim(), voice: this.#voice.value };
  }

  #choose(): void {
    const { persona, voices } = this.model;
    show("persona", persona);
    show("voice-choice", voices.length > 0);
    this.#voice.replaceChildren(new Option("Its own", ""), ...voices.map((name) => new Option(name)));
    this.#changed();
  }
}
