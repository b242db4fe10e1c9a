/* Points: a click is on the object; the right button, Shift or Alt says beside it. */

export class Points {
  sticky = false;

  constructor({ view, hints }) {
    Object.assign(this, { view, hints });
  }

  down({ x, y }, { secondary, beside }) {
    const { width, height } = this.view.size;
    const [column, row] = [Math.floor(x), Math.floor(y)];
    if (column < 0 || row < 0 || column >= width || row >= height) return;
    this.hints.point([column, row, !(secondary || beside)]);
  }

  move() {}

  up() {}

  cancel() {
    return false;
  }

  draw(context, view) {
    this.hints.draw(context, view);
  }
}
