
"use strict";
// Each sample's crops stand in the page; what is under the slider takes its images from there.
for (const sample of document.querySelectorAll(".sample")) {
  const compare = sample.querySelector(".compare");
  if (compare) connect(compare, [...sample.querySelectorAll(".crops img")]);
}

function connect(compare, crops) {
  const find = (selector) => compare.querySelector(selector);
  const frame = find(".frame"), range = find("input"), left = find(".left"), right = find(".right");
  const width = Math.max(...crops.map((crop) => Number(crop.dataset.width)));
  const height = Math.max(...crops.map((crop) => Number(crop.dataset.height)));
  const nameOf = (select) => select.selectedOptions[0].textContent;

  function choose() {
    for (const [image, select] of [[find(".over"), left], [find(".under"), right]]) {
      const crop = crops[select.value];
      image.src = crop.src;
      image.alt = crop.alt;
    }
    find(".boundary span").textContent = `Boundary between ${nameOf(left)} (left) and ${nameOf(right)} (right)`;
    move();
  }

  function move() {
    frame.style.setProperty("--boundary", `${range.value}%`);
    range.setAttribute("aria-valuetext", `${range.value} % ${nameOf(left)}, ${100 - range.value} % ${nameOf(right)}`);
  }

  // A pixel of the crop is a whole number of the screen's pixels, so that none looks larger than its neighbour.
  function fit() {
    const most = compare.clientWidth * devicePixelRatio / width;
    const zoom = most >= 1 ? Math.floor(most) : most;
    frame.style.width = `${zoom * width / devicePixelRatio}px`;
    frame.style.height = `${zoom * height / devicePixelRatio}px`;
    for (const image of frame.querySelectorAll("img")) image.classList.toggle("smaller", zoom < 1);
    range.style.width = frame.style.width;
    find(".choices").style.maxWidth = frame.style.width;
    find(".zoom").textContent = zoom < 1
      ? `${width} × ${height} pixels, made smaller to fit the screen.`
      : `${width} × ${height} pixels; each is ${zoom} × ${zoom} on the screen.`;
  }

  function follow(event) {
    const box = frame.getBoundingClientRect();
    range.value = 100 * (event.clientX - box.left) / box.width;
    move();
  }

  frame.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    frame.setPointerCapture(event.pointerId);
    range.focus({ preventScroll: true });
    follow(event);
  });
  frame.addEventListener("pointermove", (event) => {
    if (frame.hasPointerCapture(event.pointerId)) follow(event);
  });
  range.addEventListener("input", move);
  left.addEventListener("change", choose);
  right.addEventListener("change", choose);
  compare.hidden = false;
  fit();
  new ResizeObserver(fit).observe(compare);
  choose();
}
