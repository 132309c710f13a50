// A consumer in another language: a member of a group, in order, acknowledged afterwards.
// REDIS_URL=redis://localhost:6379 node consumer.mjs BTCUSDT-BINANCE-1m my-group
import { decode } from "@msgpack/msgpack";
import { createClient, RESP_TYPES } from "redis";

const [series, group] = process.argv.slice(2);
const key = `tv:bars:{${series}}`;
const url = process.env.REDIS_URL ?? "redis://localhost:6379";
const socket = process.env.REDIS_SOCKET ? { path: process.env.REDIS_SOCKET, tls: false } : undefined;
const redis = createClient(socket ? { socket } : { url });
await redis.connect();
// Bars are MessagePack: replies must stay bytes.
const bytes = redis.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });

try {
  // "0" begins at the oldest bar, "$" with the next one.
  await redis.xGroupCreate(key, group, "0", { MKSTREAM: true });
} catch (error) {
  if (!String(error).includes("BUSYGROUP")) throw error;
}

let position = "0"; // first what this member was handed and did not finish, then new bars
for (;;) {
  const replies = await bytes.xReadGroup(
    group, "node-1", { key, id: position }, { COUNT: 100, BLOCK: 5000 },
  );
  const entries = replies?.[0]?.messages ?? [];
  if (position === "0" && entries.length === 0) position = ">";
  for (const { id, message } of entries) {
    const bar = decode(message.bar);
    console.log(JSON.stringify({ series, time: bar.t, close: bar.c, volume: bar.v, how: bar.s }));
    await redis.xAck(key, group, id.toString());
  }
}
