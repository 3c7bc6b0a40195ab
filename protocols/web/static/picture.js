// From a picture file to what the model takes. As secureimg.images.prepare does it, with the same roundings, where the
// browser decodes to the same pixels: canvas decodes, and nothing else is left to it.

const MOST_OCTETS = 64 * 2 ** 20;
const MOST_PIXELS = 64e6;
const LUMA = [0.299, 0.587, 0.114]; // ITU-R BT.601

/** Decode a file into planes of 0 to 255: one if it is grey, else three. Transparency is put on black. */
export async function decode(blob) {
  if (blob.size === 0) throw new Error("the file is empty: export it again");
  if (blob.size > MOST_OCTETS) throw new Error(`the file has ${blob.size} bytes, the limit is ${MOST_OCTETS}: make it smaller`);
  const kind = sniff(new Uint8Array(await blob.slice(0, 16).arrayBuffer()));
  if (!kind) throw new Error("this is no picture that a browser decodes: save it as PNG, JPEG, WebP or BMP");
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([blob], { type: kind }), { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw new Error("the picture is truncated or damaged: export or copy it again");
  }
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) throw new Error(`the picture has ${width} x ${height} pixels: scale it down to ${MOST_PIXELS}`);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return planesOf(context.getImageData(0, 0, width, height));
}

function sniff(head) {
  const text = String.fromCharCode(...head);
  if (text.startsWith("\x89PNG\r\n\x1a\n")) return "image/png";
  if (text.startsWith("\xff\xd8\xff")) return "image/jpeg";
  if (text.startsWith("RIFF") && text.startsWith("WEBP", 8)) return "image/webp";
  return text.startsWith("BM") ? "image/bmp" : "";
}

/** Planes of RGBA pixels. */
export function planesOf({ data, width, height }) {
  const count = width * height;
  let grey = true;
  for (let i = 0; i < 4 * count && grey; i += 4) grey = data[i] === data[i + 1] && data[i] === data[i + 2];
  const planes = Array.from({ length: grey ? 1 : 3 }, (_, channel) => {
    const plane = new Uint8Array(count);
    for (let i = 0, at = channel; i < count; i++, at += 4) plane[i] = data[at];
    return plane;
  });
  return { width, height, planes };
}

/** Make the model's input: size (stretched), colours, then (x - mean) / std; channel after channel. */
export function prepare(picture, { mode, size, mean, std }) {
  const [height, width] = size ?? [picture.height, picture.width];
  const resized = height !== picture.height || width !== picture.width;
  const planes = resized ? picture.planes.map((plane) => resize(plane, picture, { width, height })) : picture.planes;
  const scaled = mode === "L" && planes.length === 3 ? [luma(planes, resized)] : planes.map((plane) => unit(plane, resized));
  const channels = mode === "RGB" && scaled.length === 1 ? [scaled[0], scaled[0], scaled[0]] : scaled;
  const out = new Float64Array(channels.length * width * height);
  channels.forEach((plane, c) => {
    const middle = mean[mean.length > 1 ? c : 0];
    const spread = std[std.length > 1 ? c : 0];
    for (let i = 0, at = c * plane.length; i < plane.length; i++, at++) out[at] = (plane[i] - middle) / spread;
  });
  return out;
}

// numpy keeps to 32 bits what was resized, and takes 64 for what was not
const exact = (x) => x;

function luma(planes, resized) {
  const narrow = resized ? Math.fround : exact;
  const weights = LUMA.map((weight) => narrow(weight / 255));
  const out = new Float64Array(planes[0].length);
  for (let i = 0; i < out.length; i++) {
    let grey = 0;
    for (let c = 0; c < 3; c++) grey += narrow(planes[c][i] * weights[c]);
    out[i] = Math.min(1, Math.max(0, grey));
  }
  return out;
}

function unit(plane, resized) {
  const narrow = resized ? Math.fround : exact;
  return Float64Array.from(plane, (x) => Math.min(1, Math.max(0, narrow(x / 255))));
}

/** Pillow's bilinear filter with antialiasing: sums in 64 bits, kept in 32, first along rows, then along columns. */
export function resize(plane, from, to) {
  let rows = Float32Array.from(plane);
  if (to.width !== from.width) {
    const taps = weights(from.width, to.width);
    const out = new Float32Array(from.height * to.width);
    for (let y = 0; y < from.height; y++) {
      for (let x = 0; x < to.width; x++) {
        const { first, w } = taps[x];
        const at = y * from.width + first;
        let sum = 0;
        for (let k = 0; k < w.length; k++) sum += rows[at + k] * w[k];
        out[y * to.width + x] = sum;
      }
    }
    rows = out;
  }
  if (to.height === from.height) return rows;
  const out = new Float32Array(to.height * to.width);
  weights(from.height, to.height).forEach(({ first, w }, y) => {
    for (let x = 0; x < to.width; x++) {
      let sum = 0;
      for (let k = 0; k < w.length; k++) sum += rows[(first + k) * to.width + x] * w[k];
      out[y * to.width + x] = sum;
    }
  });
  return out;
}

function weights(from, to) {
  const scale = from / to;
  const spread = Math.max(scale, 1);
  const slope = 1 / spread;
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - spread + 0.5));
    const last = Math.min(from, Math.trunc(centre + spread + 0.5));
    const w = Float64Array.from({ length: last - first }, (_, k) => Math.max(0, 1 - Math.abs((k + first - centre + 0.5) * slope)));
    const total = w.reduce((a, b) => a + b, 0);
    return { first, w: total ? w.map((x) => x / total) : w };
  });
}
