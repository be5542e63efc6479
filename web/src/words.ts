// What the agent says and, where the server tells it, what the user says: a paragraph for each turn.
//
// Only whole words are added, and nothing is ever changed: a screen reader reads what is added, once, if it shall at all.

/** Pieces of one word come faster than this, one after the other. */
const WORD_MILLISECONDS = 400;
/** Seconds that a word may seem to lie before the turn that it belongs to. */
const EARLY = 0.5;

/** A turn of the user's, whose words come late and belong where it began. */
interface Turn {
  /** Seconds of the conversation. */
  at: number;
  /** What stood last when it began. */
  before: Element | null;
  paragraph: HTMLElement | null;
}

export class Words {
  #log: HTMLElement;
  #paragraph: HTMLElement | null = null;
  #word = "";
  #ending = 0;
  #turns: Turn[] = [];

  constructor(log: HTMLElement) {
    this.#log = log;
  }

  /** Takes a piece of a word; one that begins with a space begins a word. */
  write(piece: string): void {
    if (/^\s/.test(piece)) this.#endWord();
    this.#word += piece;
    clearTimeout(this.#ending);
    this.#ending = window.setTimeout(() => this.#endWord(), WORD_MILLISECONDS);
  }

  /** What comes now is a new paragraph. */
  endTurn(): void {
    this.#endWord();
    this.#paragraph = null;
  }

  /** The user began to speak at that time; what the agent says next is a new paragraph. */
  beginUser(at: number): void {
    this.endTurn();
    this.#turns.push({ at, before: this.#log.lastElementChild, paragraph: null });
  }

  /** Takes a word of the user's, said at that time. */
  hear(word: string, at: number): void {
    if (!this.#turns.length) this.beginUser(at);
    const n = Math.max(0, this.#turns.findLastIndex((turn) => turn.at <= at + EARLY));
    const turn = this.#turns[n]!;
    turn.paragraph ??= this.#begin(turn, this.#turns.slice(0, n));
    turn.paragraph.append(turn.paragraph.textContent ? ` ${word}` : word);
    this.#log.scrollTop = this.#log.scrollHeight;
  }

  clear(): void {
    this.endTurn();
    this.#turns = [];
    this.#log.replaceChildren();
  }

  /** Puts a paragraph where a turn began: behind the turns that began there earlier. */
  #begin(turn: Turn, earlier: Turn[]): HTMLElement {
    const made = document.createElement("p");
    made.className = "user";
    const beside = earlier.findLast(({ before, paragraph }) => paragraph && before === turn.before);
    const place = beside?.paragraph ?? turn.before;
    if (place) place.after(made);
    else this.#log.prepend(made);
    return made;
  }

  #endWord(): void {
    clearTimeout(this.#ending);
    if (!this.#word) return;
    const paragraph = this.#paragraph ?? document.createElement("p");
    paragraph.className = "agent";
    paragraph.append(this.#word);
    if (!this.#paragraph) this.#log.append(paragraph);
    this.#paragraph = paragraph;
    this.#word = "";
    this.#log.scrollTop = this.#log.scrollHeight;
  }
}
