// Under the faces: the sound with loudness and head speed, and how far motion and sound are apart
// at each level, over time. Drawn once; only the playhead moves.

const STRIP = { left: 74, right: 8, sound: 56, level: 38, gap: 7 };
const LOUDNESS_DB = [-60, 0];

const stripHeight = (levels) => STRIP.sound + levels * (STRIP.level + STRIP.gap) + 4;

class Strip {
  constructor(canvas, clip, failures) {
    this.canvas = canvas;
    this.clip = clip;
    this.failures = failures;
    this.still = document.createElement("canvas");
    this.fresh = false;
  }

  timeAt(clientX) {
    const box = this.canvas.getBoundingClientRect();
    const share = (clientX - box.left - STRIP.left) / (box.width - STRIP.left - STRIP.right);
    return Math.min(1, Math.max(0, share)) * this.clip.frames / FRAME_RATE_HZ;
  }

  draw(time_s) {
    if (fit(this.canvas) || !this.fresh) this.drawStill();
    const context = this.canvas.getContext("2d");
    const ratio = this.canvas.width / this.canvas.clientWidth;
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.still, 0, 0);
    context.fillStyle = this.ink;
    context.fillRect(Math.round(this.x(time_s) * ratio) - 1, 0, 2, this.canvas.height);
  }

  x(time_s) {
    const width = this.canvas.clientWidth - STRIP.left - STRIP.right;
    return STRIP.left + width * time_s * FRAME_RATE_HZ / this.clip.frames;
  }

  drawStill() {
    const ratio = window.devicePixelRatio || 1;
    this.still.width = this.canvas.width;
    this.still.height = this.canvas.height;
    const context = this.still.getContext("2d");
    context.scale(ratio, ratio);
    context.font = "11px system-ui, sans-serif";
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    this.ink = colour("--ink");
    this.drawSound(context, colour);
    this.clip.sync.forEach((level, row) => this.drawLevel(context, level, row, colour));
    context.fillStyle = colour("--bad");
    for (const [, frame] of this.failures) {
      context.fillRect(this.x(frame / FRAME_RATE_HZ), 0, 1.5, this.canvas.clientHeight);
    }
    this.fresh = true;
  }

  ground(context, top, height, colour) {
    context.fillStyle = colour("--plot");
    context.fillRect(STRIP.left, top, this.canvas.clientWidth - STRIP.left - STRIP.right, height);
  }

  label(context, lines, top, colour) {
    context.fillStyle = colour("--soft");
    lines.forEach((text, line) => context.fillText(text, 8, top + 13 + 14 * line));
  }

  drawSound(context, colour) {
    const { envelope, loudness_db, frames } = this.clip;
    this.ground(context, 0, STRIP.sound, colour);
    this.label(context, ["sound"], 0, colour);
    context.fillStyle = colour("--wave");
    const duration_s = frames / FRAME_RATE_HZ;
    const width = (this.x(duration_s) - STRIP.left) / envelope.length;
    envelope.forEach((value, bin) => {
      const up = Math.max(0.5, value / 255 * (STRIP.sound / 2 - 1));
      context.fillRect(STRIP.left + bin * width, STRIP.sound / 2 - up, Math.max(0.6, width * 0.8), 2 * up);
    });
    this.line(context, loudness_db, 0.5 / FRAME_RATE_HZ, 1 / FRAME_RATE_HZ, LOUDNESS_DB, 0, STRIP.sound, colour("--ink"), []);
    const fastest = Math.max(...Object.values(this.clip.head).map((values) => Math.max(...values)), 1e-6);
    for (const [system, values] of Object.entries(this.clip.head)) {
      this.line(context, values, 0, 1 / FRAME_RATE_HZ, [0, fastest], 0, STRIP.sound, colourOf(system), [3, 2]);
    }
    context.fillStyle = colour("--ink");
    context.fillText("— dB", 8, 27);
    context.fillStyle = colour("--soft");
    context.fillText("- - head", 8, 41);
  }

  drawLevel(context, level, row, colour) {
    const top = STRIP.sound + STRIP.gap + row * (STRIP.level + STRIP.gap);
    this.ground(context, top, STRIP.level, colour);
    this.label(context, [`level ${level.level}`, "distance"], top, colour);
    const all = Object.values(level.systems).flatMap((values) => [...values].filter(Number.isFinite));
    const range = [Math.min(0, ...all), Math.max(...all, 1e-6) * 1.05];
    for (const [system, values] of Object.entries(level.systems)) {
      this.line(context, values, level.start_s, level.step_s, range, top, STRIP.level, colourOf(system), []);
    }
  }

  line(context, values, start_s, step_s, [low, high], top, height, colour, dashes) {
    context.strokeStyle = colour;
    context.lineWidth = 1.3;
    context.setLineDash(dashes);
    context.beginPath();
    let pen = false;
    values.forEach((value, index) => {
      if (!Number.isFinite(value)) { pen = false; return; }
      const share = Math.min(1, Math.max(0, (value - low) / (high - low)));
      const x = this.x(start_s + index * step_s), y = top + (height - 2) * (1 - share) + 1;
      if (pen) context.lineTo(x, y); else context.moveTo(x, y);
      pen = true;
    });
    context.stroke();
    context.setLineDash([]);
  }
}
