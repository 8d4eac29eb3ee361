// One player for all clips. What is seen follows what is heard: the sound's clock tells the frame.

const SPEEDS = [0.1, 0.25, 0.5, 1, 1.5, 2];
const JUMP_FRAMES = 5;

const player = {
  sound: new Audio(),
  card: null,
  playing: false,
  inTurn: false,   // play the next clip when one ends

  choose(card) {
    if (this.card === card) return;
    this.pause();
    const before = this.card;
    this.card = card;
    before?.name();
    card.name();
    controls.show();
  },

  async toggle(card) {
    if (this.playing && this.card === card) return this.pause();
    await this.play(card);
  },

  async play(card, { fromStart = false } = {}) {
    this.choose(card);
    this.playing = true;   // at once, so that a second press pauses
    card.name();
    controls.show();
    await card.fill();
    if (this.card !== card || !this.playing) return;
    if (fromStart || card.frame >= card.told.frames - 1) card.time_s = 0;
    if (this.sound.dataset.clip !== String(card.index)) {
      this.sound.src = card.clip.sound;
      this.sound.dataset.clip = card.index;
    }
    this.sound.currentTime = card.time_s;
    controls.setSpeed();
    try {
      await this.sound.play();
    } catch {
      if (this.card === card) this.pause();   // paused meanwhile, or the browser wants a click first
      return;
    }
    requestAnimationFrame(() => this.follow());
  },

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.sound.pause();
    this.card.name();
    controls.show();
  },

  seek(card, time_s) {
    this.choose(card);
    card.time_s = Math.min(Math.max(0, time_s), card.duration_s - 0.5 / FRAME_RATE_HZ);
    if (this.playing) this.sound.currentTime = card.time_s;
    card.draw();
    controls.show();
  },

  // The middle of a frame, so that rounding never shows its neighbour.
  step(frames) {
    const card = this.card ?? shown()[0];
    if (!card) return;
    this.pause();
    this.seek(card, (card.frame + frames + 0.5) / FRAME_RATE_HZ);
  },

  next(places) {
    const order = shown();
    if (!order.length) return;
    const at = this.card ? order.indexOf(this.card) : -1;
    const card = order[(at + places + order.length) % order.length];
    card.shell.scrollIntoView({ block: "nearest" });
    this.play(card, { fromStart: true });
  },

  follow() {
    if (!this.playing) return;
    this.card.time_s = Math.min(this.sound.currentTime, this.card.duration_s);
    this.card.draw();
    controls.show();
    requestAnimationFrame(() => this.follow());
  },
};

player.sound.addEventListener("ended", () => {
  const order = shown();
  const last = order.indexOf(player.card) + 1 >= order.length;
  player.pause();
  if (player.inTurn && !last) return player.next(1);
  player.inTurn = false;
});

const controls = {
  play: document.getElementById("play"),
  scrub: document.getElementById("scrub"),
  clock: document.getElementById("clock"),
  rate: document.getElementById("speed"),
  mute: document.getElementById("mute"),
  title: document.getElementById("current"),

  speed() { return Number(this.rate.value); },

  show() {
    const { card, playing } = player;
    this.play.textContent = playing ? "Pause" : "Play";
    this.play.setAttribute("aria-pressed", String(playing));
    const frames = card ? card.told.frames : 1;
    this.scrub.max = frames - 1;
    this.scrub.value = card ? card.frame : 0;
    this.clock.textContent = card
      ? `frame ${card.frame} / ${frames} · ${card.time_s.toFixed(2)} s` : "no clip chosen";
    this.title.textContent = card ? card.told.id : "";
  },

  toggle() {
    const card = player.card ?? shown()[0];
    if (!card) return;
    player.inTurn = !player.playing;
    player.toggle(card);
  },

  toggleSound() {
    player.sound.muted = !player.sound.muted;
    this.mute.textContent = player.sound.muted ? "Sound off" : "Sound on";
    this.mute.setAttribute("aria-pressed", String(player.sound.muted));
  },

  faster(steps) {
    const at = SPEEDS.indexOf(this.speed()) + steps;
    this.rate.value = SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, at))];
    this.setSpeed();
  },

  setSpeed() { player.sound.defaultPlaybackRate = player.sound.playbackRate = this.speed(); },
};

SPEEDS.forEach((speed) => controls.rate.append(new Option(`${speed}×`, speed, speed === 1, speed === 1)));
controls.play.addEventListener("click", () => controls.toggle());
controls.mute.addEventListener("click", () => controls.toggleSound());
controls.rate.addEventListener("change", () => controls.setSpeed());
controls.scrub.addEventListener("input", () => {
  const card = player.card ?? shown()[0];
  if (card) player.seek(card, (Number(controls.scrub.value) + 0.5) / FRAME_RATE_HZ);
});
document.getElementById("back").addEventListener("click", () => player.step(-1));
document.getElementById("forth").addEventListener("click", () => player.step(1));

const KEYS = {
  " ": () => controls.toggle(),
  ",": () => player.step(-1),
  ".": () => player.step(1),
  ArrowLeft: () => player.step(-JUMP_FRAMES),
  ArrowRight: () => player.step(JUMP_FRAMES),
  "<": () => controls.faster(-1),
  ">": () => controls.faster(1),
  m: () => controls.toggleSound(),
  n: () => player.next(1),
  p: () => player.next(-1),
  Home: () => player.card && player.seek(player.card, 0),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const field = event.target.closest("input, select");
  if (field && (field.type !== "range" || /^(Arrow|Home)/.test(event.key))) return;
  if (event.key === " " && event.target.closest("button, a, summary")) return;
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || (event.key === "Home" && !player.card)) return;
  event.preventDefault();
  act();
});
