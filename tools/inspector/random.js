// The program's generator of random numbers (engine/core/rng.h): Philox 4x32-10 under a key of 64
// bits, and the normal distribution's inverse (Wichura's AS 241). The page draws with it the noise
// that the program added; a normal may differ in its last bits, for scripts have no fused
// multiply-add.

function multiply32(a, b) {
  const al = a & 0xffff, ah = a >>> 16, bl = b & 0xffff, bh = b >>> 16;
  const ll = al * bl, lh = al * bh, hl = ah * bl, hh = ah * bh;
  const mid = (ll >>> 16) + (lh & 0xffff) + (hl & 0xffff);
  return [(hh + (lh >>> 16) + (hl >>> 16) + (mid >>> 16)) >>> 0,
          ((mid << 16) | (ll & 0xffff)) >>> 0];
}

function philox(counter, keyLow, keyHigh) {
  let c = [counter >>> 0, Math.floor(counter / 4294967296), 0, 0];
  let k0 = keyLow, k1 = keyHigh;
  for (let round = 0; round < 10; ++round) {
    const [h0, l0] = multiply32(0xd2511f53, c[0]);
    const [h1, l1] = multiply32(0xcd9e8d57, c[2]);
    c = [(h1 ^ c[1] ^ k0) >>> 0, l1, (h0 ^ c[3] ^ k1) >>> 0, l0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return c;
}

function horner(c, x) {
  let y = 0;
  for (let i = c.length - 1; i >= 0; --i) y = y * x + c[i];
  return y;
}

const kNormal = {
  a: [3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3,
      1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
      3.3430575583588128105e4, 2.5090809287301226727e3],
  b: [1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
      2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4,
      5.2264952788528545610e3],
  c: [1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0,
      3.64784832476320460504e0, 1.27045825245236838258e0, 2.41780725177450611770e-1,
      2.27238449892691845833e-2, 7.74545014278341407640e-4],
  d: [1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
      1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4,
      1.05075007164441684324e-9],
  e: [6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0,
      2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
      2.71155556874348757815e-5, 2.01033439929228813265e-7],
  f: [1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
      7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7,
      2.04426310338993978564e-15],
};

function normalFromUniform(p) {
  const q = p - 0.5;
  if (Math.abs(q) <= 0.425) {
    const r = 0.180625 - q * q;
    return q * horner(kNormal.a, r) / horner(kNormal.b, r);
  }
  const r = Math.sqrt(-Math.log(q < 0 ? p : 1 - p));
  const x = r <= 5 ? horner(kNormal.c, r - 1.6) / horner(kNormal.d, r - 1.6)
                   : horner(kNormal.e, r - 5) / horner(kNormal.f, r - 5);
  return q < 0 ? -x : x;
}

// The first `count` normals of the stream with this key, a decimal text of 64 bits.
function normals(key, count) {
  const wide = BigInt(key);
  const low = Number(wide & 0xffffffffn), high = Number(wide >> 32n);
  const out = new Float64Array(count);
  for (let i = 0; i < count; i += 2) {
    const r = philox(i / 2, low, high);
    out[i] = normalFromUniform((r[0] * 1048576 + (r[1] >>> 12) + 0.5) / 4503599627370496);
    if (i + 1 < count) {
      out[i + 1] = normalFromUniform((r[2] * 1048576 + (r[3] >>> 12) + 0.5) / 4503599627370496);
    }
  }
  return out;
}
