/**
 * Recorded scenarios in which we differ from VerneMQ on purpose. `[keep, ...steps]`: the first `keep`
 * recorded steps, then these instead of the rest. `W-nn` numbers known weaknesses of VerneMQ; "5:" and
 * "3.1.1:" are sections of the standards.
 */
export type Change = readonly [keep: number, ...steps: string[]];

interface Group {
  because: string;
  changes: Readonly<Record<string, Change>>;
}

/** CONNACK of MQTT 5 with an error, then a close. */
function refused(code: string, keep = 1): Change {
  return [keep, `A<200300${code}00`, "Ax"];
}

/** DISCONNECT of MQTT 5, then a close. */
function ended(code: string, keep = 3): Change {
  return [keep, `A<e002${code}00`, "Ax"];
}

function each(ids: string, change: Change): Record<string, Change> {
  return Object.fromEntries(ids.split(" ").map((id) => [id, change]));
}

/** PUBACK for the packet identifiers 1 to 10. */
function pubacks(): string[] {
  return Array.from({ length: 10 }, (_, i) => `A<400200${(i + 1).toString(16).padStart(2, "0")}`);
}

const PING = ["A>c000", "A<d000"];

const GROUPS: readonly Group[] = [
  {
    because: "W-01: an unknown level gets CONNACK 1, or 0x84 in MQTT 5 form",
    changes: {
      ...each("A006 A008", [1, "A<20020001", "Ax"]),
      ...each("A007 A009", refused("84")),
    },
  },
  {
    because: "3.1.1: 3.1.2.1, MQIsdp with level 4 is no protocol",
    changes: { A010: [1, "A<20020001", "Ax"] },
  },
  {
    because: "W-02: a bad MQTT 5 CONNECT gets CONNACK 0x81 or 0x82, an unknown method 0x8C",
    changes: {
      ...each("A018 A039 A041 A043 A070 A071 A072 A074 A078 A079 A080 A081 A082", refused("81")),
      ...each("A084 A102 A107 A111 A112 A114", refused("81")),
      ...each("A099 A100 A101 A103 A105", refused("82")),
      A104: refused("8c"),
    },
  },
  {
    because: "section 2: will QoS 3 is malformed [MQTT-3.1.2-12]",
    changes: { A058: [1, "Ax"], A077: refused("81"), A125: [5, "Ax"], A130: refused("81", 5) },
  },
  {
    because: "a will to a $ topic is refused as a PUBLISH to it is",
    changes: {
      A064: [1, "A<20020005", "Ax"],
      A083: refused("90"),
      A126: [5, "A<20020005", "Ax"],
      A131: refused("90", 5),
    },
  },
  {
    because:
      "5: 4.13, a protocol error is answered with DISCONNECT 0x82, and the will is published",
    changes: {
      ...each("A073 A389 A390 A391 A392 A394 A409", ended("82")),
      A407: ended("82", 7),
      A413: [...ended("82", 7), "W<300b0005742f34313377696c6c"],
      A426: [...ended("82", 7), "W<330e0005742f34323600010077696c6c"],
      A343: ended("82"),
      A345: ended("82"),
    },
  },
  {
    because: "[MQTT-2.2.1-3] packet identifier 0 is a protocol error, in every packet that has one",
    changes: { ...each("A262 A269 A315 A316 A388", ended("82")), A362: [3, "Ax"] },
  },
  {
    because: "[MQTT-3.3.1-2] DUP with QoS 0 is malformed",
    changes: { A291: [3, "Ax"], A314: ended("81") },
  },
  {
    because: "section 14: a bad topic in PUBLISH is 0x90, also when it contains NUL",
    changes: { A321: ended("90") },
  },
  {
    because: "W-32: share names must not be empty or contain wildcards, their filter not be empty",
    changes: { ...each("A214 A216 A218", [3, "Ax"]), ...each("A215 A217 A219", ended("8f")) },
  },
  {
    because: "W-36: too many levels is 0x8F or 0x90; $share and the group do not count",
    changes: {
      A231: ended("8f"),
      A324: ended("90"),
      A234: [3, "A<9003000501", ...PING],
      A235: [3, "A<900400050001", ...PING],
      B550: ended("8f"),
      B551: ended("90"),
    },
  },
  {
    because: "section 10: the last of two equal filters in one packet wins",
    changes: {
      A241: [6, "A<340b0006742f32343161000178", ...PING],
      A257: [6, "A<340c0006742f3235376100010078", ...PING],
    },
  },
  {
    because: "section 10: subscription identifier 0, or two of them, is a protocol error",
    changes: each("A274 A277", ended("82")),
  },
  {
    because: "W-26: No Local on a shared subscription is a protocol error",
    changes: each("A273 A466", ended("82")),
  },
  {
    because: "W-27: UNSUBACK 0x11 where nothing was subscribed",
    changes: {
      A265: [5, "A<b0050008000011", ...PING],
      A280: [3, "A<b00400070011", ...PING],
    },
  },
  {
    because: "W-12: a publish to a $ topic is acknowledged, in MQTT 5 with 0x90",
    changes: {
      ...each("A305 A307 A309", [3, "A<40020009", ...PING]),
      A308: [3, "A<50020009", ...PING],
      ...each("A328 A330 A332", [3, "A<400400099000", ...PING]),
      A331: [3, "A<500400099000", ...PING],
    },
  },
  {
    because: "W-17: alias faults end the connection",
    changes: {
      ...each("A320 A336", ended("82")),
      ...each("A337 A338 A339 A340 A341", ended("94")),
    },
  },
  {
    because: "5: 3.3.2.3.5 and 3.3.2.3.9, response topic and content type are checked",
    changes: { A347: ended("82"), A350: ended("81") },
  },
  {
    because: "W-13: a QoS 2 message repeated after a reconnect is routed once",
    changes: each("A355 A381", [16]),
  },
  {
    because: "W-11 e: PUBREC and PUBCOMP for unknown identifiers do not end the connection",
    changes: {
      A358: [3, "A<6202004d", ...PING],
      ...each("A359 A385", [3, ...PING]),
      ...each("A374 A400", [13, ...PING]),
    },
  },
  {
    because: "5: 4.3, the wrong acknowledgement for the QoS is a protocol error",
    changes: {
      ...each("A375 A376", [7, "Ax"]),
      ...each("A401 A402", ended("82", 7)),
    },
  },
  {
    because: "W-11 d: an ended delivery gives its credit back",
    changes: {
      A405: [8, "A<340c0005742f3430350002006d32", ...PING],
      A481: [11, "A<320c0005742f3438310002007333"],
    },
  },
  {
    because: "W-37: the delivery QoS is stored, not the publisher's",
    changes: {
      A378: [
        19,
        "A<32210007742f33373871310003746f2074686520713120737562736372697074696f6e",
        "A<32140005742f33373800046d332072657461696e6564",
        "A<320b0005742f33373800056d34",
        "A<32090005742f3337380006",
      ],
      A404: [
        19,
        "A<32220007742f3430347131000300746f2074686520713120737562736372697074696f6e",
        "A<32150005742f3430340004006d332072657461696e6564",
        "A<320c0005742f3430340005006d34",
        "A<320a0005742f343034000600",
      ],
    },
  },
  {
    because: "W-21: a malformed packet ends abnormally, with the will",
    changes: { A419: [8, "W<330e0005742f34313900010077696c6c"] },
  },
  {
    because: "W-23: a reconnect in time cancels the delayed will; a clean start publishes it",
    changes: { A431: [12], A432: [9, "W<300b0005742f34333277696c6c"] },
  },
  {
    because: "W-29: retained messages come with at most the QoS they were published with",
    changes: {
      A440: [
        8,
        "A<31080005742f34343072",
        "A>820a00030005742f34343002",
        "A<9003000302",
        "A<31080005742f34343072",
      ],
      A441: [11, "A<330a0005742f343431000272"],
      A446: [
        8,
        "A<31090005742f3434360072",
        "A>820b0003000005742f34343602",
        "A<900400030002",
        "A<31090005742f3434360072",
      ],
      A447: [11, "A<330b0005742f34343700020072"],
    },
  },
  {
    because: "W-35: live messages to shared subscriptions have RETAIN 0 unless Retain As Published",
    changes: {
      A444: [6, "A<32160005742f34343400016c6976652072657461696e6564"],
      A450: [6, "A<32170005742f3435300001006c6976652072657461696e6564"],
      A459: [5, "A<32170005742f3435390001006c6976652072657461696e3d31"],
    },
  },
  {
    because: "section 11: several retained messages come in topic order",
    changes: {
      A445: [
        7,
        "A<330c0007742f3434352f61000131",
        "A<330c0007742f3434352f62000232",
        "A<330e0009742f3434352f632f64000333",
      ],
      A451: [
        7,
        "A<330d0007742f3435312f6100010031",
        "A<330d0007742f3435312f6200020032",
        "A<330f0009742f3435312f632f6400030033",
      ],
    },
  },
  {
    because: "W-20: a message that expires while it waits for the window is not sent",
    changes: { A475: [10, "A<32110005742f34373500020502000000306d33"] },
  },
  {
    because: "W-15: max_message_size is compared with each packet alone",
    changes: {
      B535: [3, ...pubacks(), ...PING],
      B548: [3, ...pubacks(), ...PING],
    },
  },
  {
    because: "section 7.3: MQTT 5 clients are told that a packet was too large",
    changes: each("B545 B546 B547", ended("95")),
  },
  {
    because: "section 10: limits are counted from the front of the packet",
    changes: {
      B536: [
        3,
        "A<900700010101018080",
        "A>820b00020006742f3533367801",
        "A<9003000280",
        "A>820b00030006742f3533363000",
        "A<9003000300",
      ],
      B549: [
        3,
        "A<90080001000101019797",
        "A>820c0002000006742f3534397801",
        "A<900400020097",
        "A>820c0003000006742f3534393000",
        "A<900400030000",
      ],
    },
  },
  {
    because: "W-19: user properties are never cut from a PUBLISH; it is dropped",
    changes: { A482: [5, ...PING] },
  },
  {
    because: "W-34: a leaving member's unacknowledged message goes back to its group",
    changes: {
      A487: [11, "B<320a0005742f34383700016d"],
      A490: [11, "B<320b0005742f3439300001006d"],
    },
  },
];

export const CHANGES: ReadonlyMap<string, Change> = new Map(
  GROUPS.flatMap(({ changes }) => Object.entries(changes)),
);

/** One copy per overlapping filter, in any order (section 10). */
export const UNORDERED: ReadonlySet<string> = new Set(["A467", "A469", "A471"]);

/** Recordings that are not played, and where the behaviour is tested instead. */
export const NOT_PLAYED: Readonly<Record<string, string>> = {
  A484: "$SYS under the old node's name, after 20 s: see the tests of the metrics",
};
