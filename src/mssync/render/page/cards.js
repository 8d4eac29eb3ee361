// A clip's card. All cards lie on the page as empty shells; a card is filled when it comes near the
// window, and emptied when it is far: so any number of clips costs as much as those in view.

class Card {
  constructor(index) {
    this.index = index;
    this.told = page.clips[index];
    this.systems = this.told.systems;
    this.time_s = 0;
    this.shell = element("article", { className: "card clip" });
    this.shell.dataset.clip = index;
    this.shell.setAttribute("aria-label", this.told.id);
    this.clip = null;
    this.filling = null;
  }

  get duration_s() { return this.told.frames / FRAME_RATE_HZ; }
  get frame() { return Math.min(this.told.frames - 1, Math.floor(this.time_s * FRAME_RATE_HZ + 1e-3)); }

  fill() {
    this.filling ??= readClip(this.index).then((clip) => {
      if (!this.filling) return;   // emptied meanwhile
      this.clip = clip;
      this.build();
      this.draw();
    });
    return this.filling;
  }

  empty() {
    if (!this.filling) return;
    this.shell.style.minHeight = `${this.shell.offsetHeight}px`;
    this.clip = this.filling = null;
    this.shell.replaceChildren();
  }

  build() {
    this.faces = this.systems.map((system) => {
      const canvas = element("canvas", { className: "face" });
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${this.told.id}: ${system}`);
      const now = element("span", { className: "now" });
      const name = element("span", { className: "name" }, element("i", { className: `key s${seriesOf(system)}` }), system);
      const failures = (this.told.failures[system] ?? []).map(([kind, frame]) => this.failure(kind, frame));
      const cell = element("div", { className: "panel" }, canvas, element("div", { className: "caption" }, name, ...failures, now));
      return { system, canvas, now, cell };
    });
    const canvas = element("canvas", { className: "strip" });
    canvas.style.height = `${stripHeight(this.clip.sync.length)}px`;
    canvas.tabIndex = 0;
    for (const [name, value] of Object.entries({
      role: "slider", "aria-label": `Position in ${this.told.id}, in seconds`,
      "aria-valuemin": 0, "aria-valuemax": this.duration_s,
    })) canvas.setAttribute(name, value);
    this.strip = new Strip(canvas, this.clip, Object.values(this.told.failures).flat());
    this.playButton = element("button", { className: "play", type: "button" });
    this.playButton.addEventListener("click", () => player.toggle(this));
    this.shell.replaceChildren(
      element("header", { className: "clip-head" },
        this.playButton,
        element("div", {},
          element("h3", {}, this.told.id),
          element("span", { className: "soft" }, `${this.told.speaker} · ${number(this.duration_s)} s`)),
        ...this.told.warnings.map((text) => element("span", { className: "badge bad" }, text)),
        this.downloads()),
      element("div", { className: "panels" }, ...this.faces.map(({ cell }) => cell)),
      canvas,
      ...(Object.keys(this.told.scores).length ? [this.scores()] : []));
    this.shell.style.minHeight = "";
    this.shell.classList.toggle("playing", player.card === this && player.playing);
    this.name();
    for (const { canvas: face } of this.faces) face.addEventListener("click", () => player.toggle(this));
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      player.seek(this, this.strip.timeAt(event.clientX));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) player.seek(this, this.strip.timeAt(event.clientX));
    });
    canvas.addEventListener("focus", () => player.choose(this));
  }

  failure(kind, frame) {
    const button = element("button", { type: "button", className: "badge bad" }, `${kind} · frame ${frame}`);
    button.addEventListener("click", () => player.seek(this, (frame + 0.5) / FRAME_RATE_HZ));
    return button;
  }

  downloads() {
    const box = element("div", { className: "downloads" });
    const gif = element("button", { type: "button", className: "small" }, "GIF");
    gif.setAttribute("aria-label", `Download ${this.told.id} as GIF`);
    gif.addEventListener("click", () => saveGif(this, gif));
    const link = (text, address) => {
      const anchor = element("a", { className: "small", href: address, download: this.file(text.toLowerCase()) }, text);
      anchor.setAttribute("aria-label", `Download ${this.told.id} as ${text}`);
      box.append(anchor);
    };
    if (this.clip.video) link("MP4", this.clip.video);
    box.append(gif);
    return box;
  }

  file(suffix) { return `${this.told.id.replace(/[^\w.-]+/g, "_")}.${suffix}`; }

  scores() {
    const head = element("tr", {}, element("th", { scope: "col" }, "Score of this clip"), ...this.systems.map((system) => element("th", { scope: "col" }, system)));
    const rows = Object.entries(this.told.scores).map(([score, values]) => element("tr", {},
      element("th", { scope: "row" }, score),
      ...this.systems.map((system) => element("td", {}, system in values ? number(values[system]) : ""))));
    const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
    return element("details", { className: "scores" }, element("summary", {}, "Scores of this clip"), element("div", { className: "scroll" }, table));
  }

  name() {
    const playing = player.card === this && player.playing;
    this.shell.classList.toggle("playing", playing);
    this.playButton?.setAttribute("aria-label", `${playing ? "Pause" : "Play"} ${this.told.id}`);
  }

  draw() {
    if (!this.clip || !this.shell.isConnected) return;
    const { frame } = this;
    for (const { system, canvas, now } of this.faces) {
      fit(canvas);
      drawFace(canvas.getContext("2d"), this.clip.motions[system], frame, 0, 0, canvas.width);
      now.textContent = this.clip.sync.map(({ start_s, step_s, systems }) => {
        const value = systems[system]?.[Math.round((this.time_s - start_s) / step_s)];
        return Number.isFinite(value) ? value.toFixed(1) : "–";
      }).join(" · ");
    }
    this.strip.draw(this.time_s);
    this.strip.canvas.setAttribute("aria-valuenow", this.time_s.toFixed(2));
  }

  repaint() {
    if (!this.clip) return;
    this.strip.fresh = false;
    this.draw();
  }
}

const cards = page.clips.map((_, index) => new Card(index));
