// Colours of experts. Up to 8 are Okabe and Ito's, which people with any colour vision tell apart;
// further experts repeat them darker and lighter. A number always stands beside or on a colour.

const kBaseColours = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#f0e442",
                      "#8c8c8c"];
const kShades = [0, -0.4, 0.45, -0.65];

function expertColour(expert) {
  const base = kBaseColours[expert % 8];
  const shade = kShades[Math.floor(expert / 8) % kShades.length];
  const channel = (at) => {
    const value = parseInt(base.slice(at, at + 2), 16);
    const mixed = shade < 0 ? value * (1 + shade) : value + (255 - value) * shade;
    return Math.round(mixed).toString(16).padStart(2, "0");
  };
  return "#" + channel(1) + channel(3) + channel(5);
}

// Lines of charts that overlap also differ in their dashes.
function expertDash(expert) {
  return ["", "7 3", "2 3", "9 3 2 3"][Math.floor(expert / 8) % 4];
}
