// What the page holds: one block of JSON for the page, one for each clip, read when it is needed.

const page = JSON.parse(document.getElementById("page-data").textContent);
const FRAME_RATE_HZ = page.frame_rate_hz;
const POINTS = page.points;

const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const floatsOf = (text) => new Float32Array(bytesOf(text).buffer);

// Landmarks were written as differences from frame to frame, point by point, low bytes before high
// ones, and deflated: see mssync/render/payload.py.
async function motionOf(text, frames) {
  const packed = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(packed).arrayBuffer());
  const values = new Int16Array(frames * POINTS * 2);
  const half = values.length;
  let at = 0;
  for (let number = 0; number < POINTS * 2; number++) {
    let value = 0;
    for (let frame = 0; frame < frames; frame++, at++) {
      value = (value + (bytes[at] | (bytes[half + at] << 8))) << 16 >> 16;
      values[frame * POINTS * 2 + number] = value;
    }
  }
  return values;
}

async function readClip(index) {
  const { frames } = page.clips[index];
  const block = JSON.parse(document.getElementById(`clip-data-${index}`).textContent);
  const motions = {};
  for (const [system, text] of Object.entries(block.motions)) {
    motions[system] = await motionOf(text, frames);
  }
  const head = Object.fromEntries(Object.entries(block.head).map(([name, text]) => [name, floatsOf(text)]));
  const sync = block.sync.map((level) => ({
    ...level,
    systems: Object.fromEntries(Object.entries(level.systems).map(([name, text]) => [name, floatsOf(text)])),
  }));
  return {
    ...block, frames, motions, head, sync,
    envelope: bytesOf(block.envelope), loudness_db: floatsOf(block.loudness_db),
  };
}

const seriesOf = (system) => page.systems.indexOf(system) % 7;
const colourOf = (system) => getComputedStyle(document.documentElement).getPropertyValue(`--s${seriesOf(system)}`).trim();
