// Faces on canvases, drawn as the videos of mssync are.

const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

// Draw a frame of a motion into a square of a canvas.
function drawFace(context, motion, frame, left, top, side) {
  const start = frame * POINTS * 2;
  const scale = side / page.quantum;
  context.save();
  context.beginPath();
  context.rect(left, top, side, side);
  context.clip();
  context.fillStyle = css(page.background);
  context.fillRect(left, top, side, side);
  context.lineWidth = Math.max(1, side / 110);
  context.lineJoin = context.lineCap = "round";
  for (const { points, closed, colour } of page.lines) {
    context.strokeStyle = css(colour);
    context.beginPath();
    for (const point of points) {
      context.lineTo(
        left + motion[start + 2 * point] * scale, top + motion[start + 2 * point + 1] * scale,
      );
    }
    if (closed) context.closePath();
    context.stroke();
  }
  context.restore();
}

// Make a canvas as many device pixels large as it is shown; true if that has changed.
function fit(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  if (canvas.width === width && canvas.height === height) return false;
  canvas.width = width;
  canvas.height = height;
  return true;
}
