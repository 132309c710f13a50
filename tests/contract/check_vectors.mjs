// Reads docs/wire-vectors.json as a consumer in another language would.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const vectors = JSON.parse(readFileSync(process.argv[2], "utf8"));

// Just enough MessagePack for the map of a bar.
function unpack(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  const step = (size, get) => { const value = get(at); at += size; return value; };
  const read = () => {
    const head = step(1, (i) => view.getUint8(i));
    if (head <= 0x7f) return head;
    if (head >= 0x80 && head <= 0x8f) {
      const map = {};
      for (let left = head & 15; left > 0; left--) { const key = read(); map[key] = read(); }
      return map;
    }
    if (head >= 0xa0 && head <= 0xbf) {
      return step(head & 31, (i) => String.fromCharCode(...bytes.subarray(i, i + (head & 31))));
    }
    switch (head) {
      case 0xc0: return null;
      case 0xc3: return true;
      case 0xcb: return step(8, (i) => view.getFloat64(i));
      case 0xcc: return step(1, (i) => view.getUint8(i));
      case 0xcd: return step(2, (i) => view.getUint16(i));
      case 0xce: return step(4, (i) => view.getUint32(i));
      case 0xcf: return step(8, (i) => Number(view.getBigUint64(i)));
      default: throw new Error(`unexpected byte ${head.toString(16)}`);
    }
  };
  const value = read();
  assert.equal(at, bytes.length);
  return value;
}

function expected(bar) {
  const map = {
    t: bar.open_time_ms, o: bar.open, h: bar.high, l: bar.low, c: bar.close, v: bar.volume,
    e: bar.end_time_ms, p: bar.previous_open_time_ms, r: bar.received_ms, s: bar.closed_by,
  };
  if (bar.gap) map.gap = true;
  if (bar.revision) map.n = bar.revision;
  return map;
}

function text({ symbol, exchange, interval, extended, dividends, currency }) {
  const escape = (name, pattern) => name.replace(pattern, (c) =>
    [...new TextEncoder().encode(c)].map(
      (byte) => "%" + byte.toString(16).toUpperCase().padStart(2, "0")).join(""));
  const unsafe = /[^!-~]|[{}%]/gu;
  return escape(symbol, unsafe) + "-" + escape(exchange, /[^!-~]|[{}%-]/gu) + "-" + interval
    + (extended ? "+extended" : "") + (dividends ? "+dividends" : "")
    + (currency ? "+" + currency : "");
}

for (const bar of vectors.bars) {
  assert.deepEqual(unpack(Buffer.from(bar.msgpack.hex, "hex")), expected(bar));
  assert.deepEqual(JSON.parse(bar.json.text), expected(bar));
  assert.equal(bar.entry_id, `${bar.open_time_ms}-0`);
}
for (const series of vectors.series) {
  assert.equal(text(series.parts), series.text);
  for (const kind of ["bars", "forming", "corrections", "series"]) {
    assert.equal(series.keys[kind], `tv:${kind}:{${series.text}}`);
  }
}
console.log(`${vectors.bars.length} bars, ${vectors.series.length} series`);
