/** Colours: a track has the same one in every frame and every session; neighbours in number differ most. */

const GOLDEN_ANGLE = 137.50776;

/** [r, g, b] of a track number. */
export function trackColor(number) {
  const hue = (200 + number * GOLDEN_ANGLE) % 360;
  return hslToRgb(hue, 0.82, number % 2 ? 0.6 : 0.68);
}

/** [r, g, b] of "#rrggbb". */
export const hexColor = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

export const css = ([r, g, b], alpha = 1) => `rgb(${r} ${g} ${b} / ${alpha})`;

/** Black or white, whichever reads better on the colour (relative luminance of WCAG 2). */
export function inkOn(color) {
  const [r, g, b] = color.map((value) => ((value / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.3 ? "#0b0f14" : "#ffffff";
}

function hslToRgb(hue, saturation, lightness) {
  const part = (n) => {
    const k = (n + hue / 30) % 12;
    const value = lightness - saturation * Math.min(lightness, 1 - lightness) * Math.max(-1, Math.min(k - 3, 9 - k, 1));
    return Math.round(255 * value);
  };
  return [part(0), part(8), part(4)];
}
