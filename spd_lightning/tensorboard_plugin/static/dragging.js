/* Dragging, zooming and pointing on a picture. */

/** Listen on a canvas of `graphCanvas`; arrow and zoom keys come to `parent`. */
export function draggable(parent, { canvas, moves, point, click, leave }) {
  let held = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    const { x, y } = moves.view();
    held = { x: event.clientX - x, y: event.clientY - y, from: [event.clientX, event.clientY], moved: false };
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) {
      point(event.offsetX, event.offsetY);
      return;
    }
    held.moved ||= Math.hypot(event.clientX - held.from[0], event.clientY - held.from[1]) > 3;
    if (held.moved) moves.move(event.clientX - held.x, event.clientY - held.y);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (held && !held.moved) click(event.offsetX, event.offsetY);
    held = null;
  });
  canvas.addEventListener("pointercancel", () => (held = null));
  canvas.addEventListener("pointerleave", leave);
  canvas.addEventListener("dblclick", moves.fit);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    moves.zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
  }, { passive: false });
  const pan = (x, y) => () => moves.move(moves.view().x + x, moves.view().y + y);
  const keys = {
    nearer: () => moves.zoom(1.4), farther: () => moves.zoom(1 / 1.4), whole: moves.fit,
    left: pan(80, 0), right: pan(-80, 0), up: pan(0, 80), down: pan(0, -80),
  };
  for (const [name, act] of Object.entries(keys)) {
    parent.addEventListener(name, (event) => {
      event.preventDefault();
      act();
    });
  }
}
