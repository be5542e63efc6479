/** Hertz of all sound in the page. Worklets run at the device's own rate, and bring their sound to and from this one. */
export const RATE = 48000;
