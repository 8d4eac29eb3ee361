// A clip as GIF, made here: faces side by side under their names, every second frame, without sound.

const GIF = { side: 200, header: 22, every: 2 };

// Few colours occur: the lines over the background, and text, each blended with it.
function gifPalette() {
  const [ground, steps] = [page.background, 24];
  const colours = [...new Map(page.lines.map(({ colour }) => [String(colour), colour])).values(), [203, 213, 225]];
  const palette = colours.flatMap((colour) => Array.from({ length: steps }, (_, step) =>
    colour.map((channel, at) => Math.round(ground[at] + (channel - ground[at]) * (step + 1) / steps))));
  return [ground, ...palette].slice(0, 256);
}

function nearest(palette, cache, red, green, blue) {
  const key = (red >> 2) << 12 | (green >> 2) << 6 | blue >> 2;
  if (cache[key] >= 0) return cache[key];
  let best = 0, least = Infinity;
  palette.forEach(([r, g, b], index) => {
    const distance = (r - red) ** 2 + (g - green) ** 2 + (b - blue) ** 2;
    if (distance < least) [best, least] = [index, distance];
  });
  return cache[key] = best;
}

// LZW as GIF wants it: codes of 9 to 12 bits, least significant bit first, in blocks of 255 bytes.
function lzw(pixels) {
  const bytes = [], CLEAR = 256, END = 257;
  let buffer = 0, bits = 0, width = 9, next = 258, known = new Map();
  const put = (code) => {
    buffer |= code << bits;
    for (bits += width; bits >= 8; bits -= 8, buffer >>>= 8) bytes.push(buffer & 255);
  };
  put(CLEAR);
  let prefix = pixels[0];
  for (let at = 1; at < pixels.length; at++) {
    const key = prefix << 8 | pixels[at], code = known.get(key);
    if (code !== undefined) { prefix = code; continue; }
    put(prefix);
    if (next === 4096) {
      put(CLEAR);
      known = new Map();
      [next, width] = [258, 9];
    } else {
      if (next === 1 << width) width++;
      known.set(key, next++);
    }
    prefix = pixels[at];
  }
  put(prefix);
  put(END);
  if (bits) bytes.push(buffer & 255);
  const blocks = [];
  for (let at = 0; at < bytes.length; at += 255) {
    const block = bytes.slice(at, at + 255);
    blocks.push(block.length, ...block);
  }
  return [8, ...blocks, 0];
}

const short = (value) => [value & 255, value >> 8];

async function makeGif(card, tell) {
  const { side, header, every } = GIF;
  const canvas = element("canvas", { width: side * card.systems.length, height: side + header });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const palette = gifPalette(), cache = new Int16Array(1 << 18).fill(-1);
  context.font = "13px system-ui, sans-serif";
  context.textAlign = "center";
  const table = palette.flat();
  const parts = [new Uint8Array([
    ...new TextEncoder().encode("GIF89a"), ...short(canvas.width), ...short(canvas.height), 0xf7, 0, 0,
    ...table, ...new Array(768 - table.length).fill(0),
    0x21, 0xff, 11, ...new TextEncoder().encode("NETSCAPE2.0"), 3, 1, 0, 0, 0,
  ])];
  for (let frame = 0; frame < card.told.frames; frame += every) {
    context.fillStyle = css(page.background);
    context.fillRect(0, 0, canvas.width, header);
    context.fillStyle = "rgb(203 213 225)";
    card.systems.forEach((system, place) => {
      context.fillText(system, (place + 0.5) * side, header - 7, side - 8);
      drawFace(context, card.clip.motions[system], frame, place * side, header, side);
    });
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    const pixels = new Uint8Array(data.length / 4);
    for (let at = 0; at < pixels.length; at++) {
      pixels[at] = nearest(palette, cache, data[4 * at], data[4 * at + 1], data[4 * at + 2]);
    }
    parts.push(new Uint8Array([
      0x21, 0xf9, 4, 0, ...short(Math.round(100 * every / FRAME_RATE_HZ)), 0, 0,
      0x2c, 0, 0, 0, 0, ...short(canvas.width), ...short(canvas.height), 0,
    ]), new Uint8Array(lzw(pixels)));
    tell(Math.round(100 * frame / card.told.frames));
    await new Promise((resolve) => setTimeout(resolve));
  }
  parts.push(new Uint8Array([0x3b]));
  return new Blob(parts, { type: "image/gif" });
}

async function saveGif(card, button) {
  button.disabled = true;
  const blob = await makeGif(card, (percent) => { button.textContent = `${percent} %`; });
  button.disabled = false;
  button.textContent = "GIF";
  const address = URL.createObjectURL(blob);
  element("a", { href: address, download: card.file("gif") }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
