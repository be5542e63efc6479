// Keeps the screen of a phone on during a call: with the screen, the microphone would go too.

let wanted = false;
let lock: WakeLockSentinel | null = null;

export function keepAwake(awake: boolean): void {
  if (awake === wanted) return;
  wanted = awake;
  void renew();
}

async function renew(): Promise<void> {
  if (!wanted) {
    await lock?.release();
    lock = null;
  } else if (!document.hidden) {
    // Where it cannot be had, the call goes on all the same.
    lock = (await navigator.wakeLock?.request("screen").catch(() => null)) ?? null;
    if (!wanted) void renew();
  }
}

// The browser takes it away with the page's sight.
document.addEventListener("visibilitychange", () => {
  if (wanted) void renew();
});
