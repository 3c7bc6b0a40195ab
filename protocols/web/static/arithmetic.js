// Numbers modulo 2^width, their shares, and the octets that carry them. As secureimg.sharing.ring and .ownership do it.
//
// A number is kept as two 32-bit halves (lo, hi): JavaScript's own are exact up to 2^53 only.

const CHUNK = 65536; // crypto.getRandomValues gives no more at a time
const HALF = 2 ** 32;

/** Round to the nearest whole number, halves to the even one, as numpy's rint does. */
export function rint(x) {
  return Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x);
}

/** Octets from the operating system's generator. */
export function randomOctets(count) {
  const out = new Uint8Array(count);
  for (let at = 0; at < count; at += CHUNK) crypto.getRandomValues(out.subarray(at, at + CHUNK));
  return out;
}

export function hex(octets) {
  return Array.from(octets, (octet) => octet.toString(16).padStart(2, "0")).join("");
}

function masks(width) {
  const ones = (bits) => (bits <= 0 ? 0 : bits >= 32 ? 0xffffffff : 2 ** bits - 1);
  return [ones(width), ones(width - 32)];
}

/** Whole numbers `round(x * 2^scale)` in two's complement. */
export function encode(values, scale) {
  const lo = new Uint32Array(values.length);
  const hi = new Uint32Array(values.length);
  const unit = 2 ** scale;
  for (let i = 0; i < values.length; i++) {
    const scaled = rint(values[i] * unit);
    if (!(Math.abs(scaled) < 2 ** 61)) throw new RangeError("a value of the picture is too large for the program");
    const upper = Math.floor(scaled / HALF);
    lo[i] = scaled - upper * HALF;
    hi[i] = upper; // both modulo 2^32 by the type of the array
  }
  return { lo, hi };
}

/** The low `size` octets of each number: a plane of four octets each, one of two, one of one. */
export function pack({ lo, hi }, size) {
  const count = lo.length;
  const out = new Uint8Array(count * size);
  const view = new DataView(out.buffer);
  if (size === 8) {
    for (let i = 0; i < count; i++) {
      view.setUint32(8 * i, lo[i], true);
      view.setUint32(8 * i + 4, hi[i], true);
    }
    return out;
  }
  eachPlane(size, count, (place, wide, half, shift) => {
    const from = half ? hi : lo;
    for (let i = 0; i < count; i++, place += wide) {
      const part = from[i] >>> shift;
      if (wide === 4) view.setUint32(place, part, true);
      else if (wide === 2) view.setUint16(place, part, true);
      else view.setUint8(place, part);
    }
  });
  return out;
}

/** Undo `pack`. */
export function unpack(octets, size) {
  const count = octets.length / size;
  const lo = new Uint32Array(count);
  const hi = new Uint32Array(count);
  const view = new DataView(octets.buffer, octets.byteOffset, octets.length);
  if (size === 8) {
    for (let i = 0; i < count; i++) {
      lo[i] = view.getUint32(8 * i, true);
      hi[i] = view.getUint32(8 * i + 4, true);
    }
    return { lo, hi };
  }
  eachPlane(size, count, (place, wide, half, shift) => {
    const to = half ? hi : lo;
    for (let i = 0; i < count; i++, place += wide) {
      const part = wide === 4 ? view.getUint32(place, true) : wide === 2 ? view.getUint16(place, true) : octets[place];
      to[i] |= part << shift;
    }
  });
  return { lo, hi };
}

function eachPlane(size, count, visit) {
  let place = 0;
  let bit = 0;
  for (const wide of [4, 2, 1]) {
    if (!(size & wide)) continue;
    visit(place, wide, bit >= 32, bit % 32);
    place += wide * count;
    bit += 8 * wide;
  }
}

function limit({ lo, hi }, width) {
  const [low, high] = masks(width);
  for (let i = 0; i < lo.length; i++) {
    lo[i] &= low;
    hi[i] &= high;
  }
  return { lo, hi };
}

/** The two shares of some values: noise r for party 0, and x - r, noise as well without r, for party 1. */
export function split(values, encoding, noise = randomOctets(values.length * encoding.bytes)) {
  const x = encode(values, encoding.scale);
  const r = limit(unpack(noise, encoding.bytes), encoding.width);
  const lo = new Uint32Array(x.lo.length);
  const hi = new Uint32Array(x.lo.length);
  for (let i = 0; i < lo.length; i++) {
    lo[i] = x.lo[i] - r.lo[i];
    hi[i] = x.hi[i] - r.hi[i] - (x.lo[i] < r.lo[i] ? 1 : 0);
  }
  return [pack(r, encoding.bytes), pack(limit({ lo, hi }, encoding.width), encoding.bytes)];
}

/** What two shares stand for: numbers, or places if the program reveals no numbers. */
export function join(first, second, encoding, outputs) {
  if (first.length !== second.length || first.length !== encoding.share_bytes) {
    throw new RangeError(`the shares of the result have ${first.length} and ${second.length} octets, expected ${encoding.share_bytes}`);
  }
  const a = unpack(first, encoding.bytes);
  const b = unpack(second, encoding.bytes);
  const values = new Float64Array(a.lo.length);
  const unit = 2 ** -encoding.scale;
  for (let i = 0; i < values.length; i++) {
    const sum = a.lo[i] + b.lo[i];
    const lo = sum >>> 0;
    const hi = (a.hi[i] + b.hi[i] + (sum >= HALF ? 1 : 0)) >>> 0;
    values[i] = encoding.code ? place(lo, encoding.code, outputs) : signed(lo, hi, encoding.width) * unit * encoding.factor;
  }
  return values;
}

function signed(lo, hi, width) {
  const [low, high] = masks(width);
  if (width <= 32) {
    const value = (lo & low) >>> 0;
    return value >= 2 ** (width - 1) ? value - 2 ** width : value;
  }
  const upper = (hi & high) >>> 0;
  return (upper >= 2 ** (width - 33) ? upper - 2 ** (width - 32) : upper) * HALF + lo;
}

function place(lo, code, outputs) {
  const found = 2 ** code - 1 - ((lo & (2 ** code - 1)) >>> 0);
  if (code > 31 || found >= Math.max(outputs, 2)) throw new RangeError("the shares do not add up to a result: the parties disagree");
  return found;
}

/** What a share looks like to whoever holds it: the upper bits of each number of one plane, 0 to 255. */
export function appearance(share, encoding, count) {
  const { lo, hi } = unpack(share, encoding.bytes);
  const shift = Math.max(0, encoding.width - 8);
  const out = new Uint8ClampedArray(count);
  for (let i = 0; i < count; i++) {
    out[i] = shift >= 32 ? hi[i] >>> (shift - 32) : (lo[i] >>> shift) | (shift ? hi[i] << (32 - shift) : 0);
  }
  return out;
}

/** exp(x) over their sum, along one axis; natural logarithms of it if `log`. */
export function softmax(values, shape, axis, log) {
  const out = new Float64Array(values);
  along(shape, axis, (places) => {
    const largest = Math.max(...places.map((i) => values[i]));
    const total = places.reduce((sum, i) => sum + Math.exp(values[i] - largest), 0);
    for (const i of places) out[i] = log ? values[i] - largest - Math.log(total) : Math.exp(values[i] - largest) / total;
  });
  return out;
}

/** The first largest element's place, along one axis. */
export function argmax(values, shape, axis) {
  const out = [];
  along(shape, axis, (places) => {
    out.push(places.reduce((best, i, at) => (values[i] > values[places[best]] ? at : best), 0));
  });
  return Float64Array.from(out);
}

function along(shape, axis, visit) {
  const at = axis < 0 ? axis + shape.length : axis;
  const inner = shape.slice(at + 1).reduce((a, b) => a * b, 1);
  const outer = shape.slice(0, at).reduce((a, b) => a * b, 1);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) visit(Array.from({ length: shape[at] }, (_, k) => (o * shape[at] + k) * inner + i));
  }
}
