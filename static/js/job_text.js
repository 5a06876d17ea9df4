/** Numbers of a job in words. */

/** 75 → "1 min 15 s"; 3.2 → "3 s". */
export function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** 0.9999 → "99 %": only what is done is 100 %. */
export const percent = (share) => `${Math.floor(share * 100 + 1e-9)} %`;

/** "12 of 36 · 4.1/s · 2 skipped" */
export function stageNumbers(stage) {
  if (!stage.total) return "–";
  const parts = [`${stage.done.toLocaleString("en")} of ${stage.total.toLocaleString("en")}`];
  if (stage.frames_per_second) parts.push(`${stage.frames_per_second.toFixed(1)}/s`);
  if (stage.bad_frames) parts.push(`${stage.bad_frames} skipped`);
  return parts.join(" · ");
}
