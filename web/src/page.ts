// The page's elements.

export function element<T extends HTMLElement = HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

/** Writes a text, if it is another: what does not change is not laid out anew, nor read aloud again. */
export function write(id: string, text: string): void {
  const place = element(id);
  if (place.textContent !== text) place.textContent = text;
}

export function show(id: string, shown: boolean): void {
  element(id).hidden = !shown;
}
