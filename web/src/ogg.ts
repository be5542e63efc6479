// Ogg pages (RFC 3533) around Opus packets (RFC 7845): what a page sends and gets.

const HEADER = 27;
const BEGINS = 2;
const TABLE = new Uint32Array(256).map((_, byte) => {
  let crc = byte << 24;
  for (let bit = 0; bit < 8; bit++) crc = crc & 0x80000000 ? (crc << 1) ^ 0x04c11db7 : crc << 1;
  return crc >>> 0;
});

export function checksum(bytes: Uint8Array): number {
  let crc = 0;
  for (const byte of bytes) crc = ((crc << 8) ^ TABLE[((crc >>> 24) ^ byte) & 255]!) >>> 0;
  return crc;
}

/** Writes one stream, a page for each packet. */
export class OggWriter {
  #page = 0;
  #granule = 0;

  constructor(readonly rate: number) {}

  /** The pages that begin the stream, or another one after it. */
  header(): Uint8Array {
    this.#page = this.#granule = 0;
    const head = new Uint8Array(19);
    const view = new DataView(head.buffer);
    head.set(new TextEncoder().encode("OpusHead"));
    head.set([1, 1], 8);
    view.setUint16(10, 312, true);
    view.setUint32(12, this.rate, true);
    const vendor = new TextEncoder().encode("duplex");
    const tags = new Uint8Array(16 + vendor.length);
    tags.set(new TextEncoder().encode("OpusTags"));
    new DataView(tags.buffer).setUint32(8, vendor.length, true);
    tags.set(vendor, 12);
    const pages = [this.#write(head), this.#write(tags)];
    return join(pages);
  }

  /** A packet of so many samples at 48 kHz. */
  packet(data: Uint8Array, samples: number): Uint8Array {
    this.#granule += samples;
    return this.#write(data);
  }

  #write(packet: Uint8Array): Uint8Array {
    const segments = Math.floor(packet.length / 255) + 1;
    const page = new Uint8Array(HEADER + segments + packet.length);
    const view = new DataView(page.buffer);
    page.set([0x4f, 0x67, 0x67, 0x53, 0, this.#page === 0 ? BEGINS : 0]);
    view.setBigUint64(6, BigInt(this.#granule), true);
    view.setUint32(14, 1, true);
    view.setUint32(18, this.#page++, true);
    page[26] = segments;
    page.fill(255, HEADER, HEADER + segments - 1);
    page[HEADER + segments - 1] = packet.length % 255;
    page.set(packet, HEADER + segments);
    view.setUint32(22, checksum(page), true);
    return page;
  }
}

/** Reads the packets of whole pages; the server sends no others, and a websocket loses nothing. */
export class OggReader {
  #rest: Uint8Array = new Uint8Array();
  #partial: Uint8Array[] = [];

  feed(data: Uint8Array): Uint8Array[] {
    const bytes = join([this.#rest, data]);
    const packets: Uint8Array[] = [];
    let at = 0;
    while (bytes.length - at >= HEADER) {
      const segments = bytes[at + 26]!;
      const lacing = bytes.subarray(at + HEADER, at + HEADER + segments);
      const length = lacing.reduce((sum, size) => sum + size, 0);
      let start = at + HEADER + segments;
      if (lacing.length < segments || bytes.length < start + length) break;
      for (const size of lacing) {
        this.#partial.push(bytes.slice(start, start + size));
        start += size;
        if (size < 255) {
          packets.push(join(this.#partial));
          this.#partial = [];
        }
      }
      at = start;
    }
    this.#rest = bytes.slice(at);
    return packets;
  }
}

export function isHeader(packet: Uint8Array): boolean {
  const start = new TextDecoder().decode(packet.subarray(0, 8));
  return start === "OpusHead" || start === "OpusTags";
}

function join(pieces: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
