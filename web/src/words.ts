// What the agent says and, where the server tells it, what the user says: a paragraph for each turn. Only whole words are added, and nothing is ever changed: a screen
// reader reads what is added, once.

/** Pieces of one word come faster than this, one after the other. */
const WORD_MILLISECONDS = 400;

export class Words {
  #log: HTMLElement;
  #paragraph: HTMLElement | null = null;
  #word = "";
  #ending = 0;
  #heard: HTMLElement | null = null;
  /** What stood there when the user began to speak: the user's words come late, and belong below it. */
  #before: Element | null = null;

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

  /** The user begins to speak; what the agent says next is a new paragraph. */
  beginUser(): void {
    this.endTurn();
    this.#heard = null;
    this.#before = this.#log.lastElementChild;
  }

  /** Takes a word of the user's. */
  hear(word: string): void {
    if (!this.#heard) {
      this.#heard = document.createElement("p");
      this.#heard.className = "user";
      if (this.#before) this.#before.after(this.#heard);
      else this.#log.prepend(this.#heard);
    }
    this.#heard.append(this.#heard.textContent ? ` ${word}` : word);
    this.#log.scrollTop = this.#log.scrollHeight;
  }

  clear(): void {
    this.endTurn();
    this.#heard = this.#before = null;
    this.#log.replaceChildren();
  }

  #endWord(): void {
    clearTimeout(this.#ending);
    if (!this.#word) return;
    const paragraph = this.#paragraph ?? document.createElement("p");
    paragraph.append(this.#word);
    if (!this.#paragraph) this.#log.append(paragraph);
    this.#paragraph = paragraph;
    this.#word = "";
    this.#log.scrollTop = this.#log.scrollHeight;
  }
}
