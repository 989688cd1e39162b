import { describe, expect, it } from "vitest";
import { Message } from "../../../core/mqtt/message.ts";
import { NEVER_EXPIRES } from "../../../core/session/subscriber.ts";
import { publishWill, willDelay } from "../../../core/session/will.ts";
import { staying, texts, turn, World } from "./world.ts";

const message = (retain = false): Message =>
  new Message("", "will", Buffer.from("gone"), 1, retain, undefined, 0);

describe("delay of a will", () => {
  it.each([
    // delay, cap, session expiry, waits
    [0, NEVER_EXPIRES, 100, 0],
    [30, NEVER_EXPIRES, 100, 30],
    [30, 10, 100, 10],
    [30, NEVER_EXPIRES, 20, 20],
    [30, NEVER_EXPIRES, 0, 0],
    [30, 0, 100, 0],
    [NEVER_EXPIRES, NEVER_EXPIRES, NEVER_EXPIRES, NEVER_EXPIRES],
  ])("%i s, capped at %i, in a session of %i s: %i", (delayS, capS, expiryS, waits) => {
    expect(willDelay({ message: message(), delayS, expiryS: -1 }, capS, expiryS)).toBe(waits);
  });
});

describe("publishing a will", () => {
  it("reaches subscribers and stays when it is retained", async () => {
    const world = await new World().start();
    const witness = await world.connect("w");
    await witness.subscribe("will");
    const client = await world.connect("c", staying());
    client.drop();
    publishWill(world.core, world.find("c"), { message: message(true), delayS: 0, expiryS: -1 });
    await turn();
    expect(texts(witness.take("publish"))).toEqual(["gone"]);
    expect(world.core.router.retained.list("").map(({ topic }) => topic)).toEqual(["will"]);
  });
});
