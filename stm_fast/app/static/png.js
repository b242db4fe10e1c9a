/* PNGs of object ids: grey, 8 bits, byte for byte. A canvas would convert colours, and lose ids in some browsers. */

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value >>> 0;
});

/** Read a PNG into {width, height, ids}; throws an Error if it is not grey or indexed with 8 bits. */
export async function decodeIds(buffer) {
  const bytes = new Uint8Array(buffer);
  const view = new DataView(buffer);
  if (SIGNATURE.some((byte, index) => bytes[index] !== byte)) throw new Error("a mask is not a PNG");
  let width = 0;
  let height = 0;
  const parts = [];
  for (let at = 8; at < bytes.length; ) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const body = at + 8;
    if (kind === "IHDR") {
      width = view.getUint32(body);
      height = view.getUint32(body + 4);
      const [depth, colour, , , interlaced] = bytes.subarray(body + 8, body + 13);
      if (depth !== 8 || (colour !== 0 && colour !== 3) || interlaced)
        throw new Error(`a mask must be a grey PNG of 8 bits, got colour type ${colour} with ${depth} bits`);
    }
    if (kind === "IDAT") parts.push(bytes.subarray(body, body + length));
    at = body + length + 4;
  }
  const rows = await through(new DecompressionStream("deflate"), new Blob(parts));
  return { width, height, ids: unfilter(rows, width, height) };
}

/** Write ids as a PNG; returns a Blob. */
export async function encodeIds(ids, width, height) {
  const rows = new Uint8Array((width + 1) * height);
  for (let y = 0; y < height; y++) rows.set(ids.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const header = new Uint8Array(13);
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  header[8] = 8;
  const data = await through(new CompressionStream("deflate"), new Blob([rows]));
  const parts = [Uint8Array.from(SIGNATURE), chunk("IHDR", header), chunk("IDAT", data), chunk("IEND", new Uint8Array())];
  return new Blob(parts, { type: "image/png" });
}

async function through(transform, blob) {
  return new Uint8Array(await new Response(blob.stream().pipeThrough(transform)).arrayBuffer());
}

function chunk(kind, data) {
  const bytes = new Uint8Array(data.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  for (let index = 0; index < 4; index++) bytes[4 + index] = kind.charCodeAt(index);
  bytes.set(data, 8);
  let crc = 0xffffffff;
  for (const byte of bytes.subarray(4, data.length + 8)) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  view.setUint32(data.length + 8, ~crc >>> 0);
  return bytes;
}

function unfilter(rows, width, height) {
  const ids = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const from = y * (width + 1) + 1;
    const row = ids.subarray(y * width, (y + 1) * width);
    const above = y ? ids.subarray((y - 1) * width, y * width) : new Uint8Array(width);
    row.set(rows.subarray(from, from + width));
    unfilterRow(rows[from - 1], row, above);
  }
  return ids;
}

/** Add to each byte of a row what its filter predicts from those before it and above it. */
function unfilterRow(filter, row, above) {
  const { length } = row;
  if (filter === 1) for (let x = 1; x < length; x++) row[x] += row[x - 1];
  if (filter === 2) for (let x = 0; x < length; x++) row[x] += above[x];
  if (filter === 3) for (let x = 0; x < length; x++) row[x] += ((x ? row[x - 1] : 0) + above[x]) >> 1;
  if (filter === 4) for (let x = 0; x < length; x++) row[x] += x ? nearest(row[x - 1], above[x], above[x - 1]) : above[0];
}

/** The predictor of Paeth: of left, up and corner the one that is nearest to left + up - corner. */
function nearest(left, up, corner) {
  const a = Math.abs(up - corner);
  const b = Math.abs(left - corner);
  const c = Math.abs(left + up - 2 * corner);
  return a <= b && a <= c ? left : b <= c ? up : corner;
}
