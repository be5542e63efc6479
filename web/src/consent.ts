// Asks before a call that is recorded.

import { element, show } from "./page";

/** What the server is told of the answer; who was not asked has not agreed, whatever the server records by now. */
export type Consent = "agreed" | "refused";

/** For so long there is no answer: a double click on what stood there before is none. */
const UNREAD_MILLISECONDS = 500;

/** Asks; resolves to null when there shall be no call. `optional`: there are calls without a recording, too. */
export async function askConsent(optional: boolean): Promise<Consent | null> {
  const dialog = element<HTMLDialogElement>("consent");
  show("refuse", optional);
  dialog.returnValue = "";
  const enable = (enabled: boolean) => dialog.querySelectorAll("button").forEach((button) => (button.disabled = !enabled));
  enable(false);
  dialog.showModal();
  const read = setTimeout(enable, UNREAD_MILLISECONDS, true);
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  clearTimeout(read);
  return (dialog.returnValue as Consent) || null;
}
