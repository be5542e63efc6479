// Asks before a call that is recorded.

import { element, show } from "./page";

/** What the server is told of the answer; nothing where it was not asked for. */
export type Consent = "" | "agreed" | "refused";

/** Asks; resolves to null when there shall be no call. `optional`: there are calls without a recording, too. */
export async function askConsent(optional: boolean): Promise<Consent | null> {
  const dialog = element<HTMLDialogElement>("consent");
  show("refuse", optional);
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  return (dialog.returnValue as Consent) || null;
}
