// Clips on the page Check: the course of one as bars, and its frames, drawn by this browser.

const TALL = 72;      // pixels of a frame in the strip
const FRAMES = 6;     // in the strip
const PATIENCE = 4000;  // milliseconds for a browser that cannot play the video

const SVG = "http://www.w3.org/2000/svg";
const clock = (time) =>
  `${Math.floor(time / 60)}:${(time % 60).toFixed(1).padStart(4, "0")}`;

/** Fill a card's drawing with the frames of a clip; what is said of it. */
export function drawCourse(svg, clip, threshold) {
  const length = Math.max(clip.duration, clip.judged_until, 0.001);
  const wide = Math.min(160 / clip.frames.length, 12);
  const x = (time) => ((200 - wide) * time) / length;
  const add = (name, attributes) => {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    svg.append(node);
  };
  svg.replaceChildren();
  const from = x(clip.highest_from);
  add("rect", { class: "window", x: from, y: 0, width: x(clip.highest_until) - from + wide, height: 40 });
  for (const one of clip.frames) {
    const lacks = ["too_small", "one_colour", "alpha_only"].includes(one.reason);
    const height = Math.max(40 * one.prediction, 0.5);
    add("rect", {
      class: lacks ? "" : one.verdict, x: x(one.time), y: 40 - height, width: wide, height,
    });
  }
  const level = 40 - 40 * threshold;
  add("line", { class: "threshold", x1: 0, x2: 200, y1: level, y2: level });
  return {
    frames: clip.frames.length, judged: clock(clip.judged_until), length: clock(clip.duration),
    first: clock(clip.highest_from), last: clock(clip.highest_until),
  };
}

/** Have the browser seek a video, and wait until it shows the moment. */
const at = (video, time) => new Promise((done, fail) => {
  video.onseeked = done;
  video.onerror = fail;
  setTimeout(fail, PATIENCE);
  video.currentTime = time;
});

/** A video of a file that can be drawn; it never leaves this browser. */
export async function opened(file) {
  const video = document.createElement("video");
  video.muted = true;
  video.preload = "auto";
  const ready = new Promise((done, fail) => {
    video.onloadeddata = done;
    video.onerror = fail;
    setTimeout(fail, PATIENCE);
  });
  video.src = URL.createObjectURL(file);
  await ready;
  return video;
}

/** Draw some of a clip's frames in a row, where this browser can play it. */
export async function drawStrip(canvas, file, frames) {
  const step = Math.max(1, Math.ceil(frames.length / FRAMES));
  const shown = frames.filter((_, place) => place % step === 0);
  const video = await opened(file);
  try {
    const wide = Math.round((TALL * video.videoWidth) / video.videoHeight);
    canvas.width = (wide + 3) * shown.length - 3;
    canvas.height = TALL;
    const pen = canvas.getContext("2d");
    for (const [place, one] of shown.entries()) {
      await at(video, Math.min(one.time, video.duration || one.time));
      pen.drawImage(video, place * (wide + 3), 0, wide, TALL);
    }
    canvas.hidden = false;
  } finally {
    URL.revokeObjectURL(video.src);
  }
}
