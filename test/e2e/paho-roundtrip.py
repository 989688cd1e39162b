"""Round trip with paho: prints what it saw as one JSON line. Started by paho.test.ts."""

import json
import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

WAIT_S = 10
VERSIONS = {"31": mqtt.MQTTv31, "311": mqtt.MQTTv311, "5": mqtt.MQTTv5}

port, version, transport, cafile, topic = sys.argv[1:6]
is_v5 = version == "5"


def connected(name, will=None, clean=True):
    options = {} if is_v5 else {"clean_session": clean}
    kind = "websockets" if transport in ("ws", "wss") else "tcp"
    client = mqtt.Client(name, protocol=VERSIONS[version], transport=kind, **options)
    if transport in ("tls", "wss"):
        client.tls_set(cafile)
    if will is not None:
        client.will_set(will, "gone", qos=1)
    client.seen = queue.Queue()
    client.acks = queue.Queue()
    client.on_connect = lambda *args: client.acks.put(args[2:])
    client.on_subscribe = lambda *args: client.acks.put(args[3])
    client.on_message = lambda _c, _u, m: client.seen.put(m)
    if is_v5:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 0 if clean else 60
        client.connect("127.0.0.1", int(port), clean_start=clean, properties=properties)
    else:
        client.connect("127.0.0.1", int(port))
    client.loop_start()
    flags, code = client.acks.get(timeout=WAIT_S)[:2]
    client.code = int(code.value if is_v5 else code)
    client.session_present = flags["session present"]
    return client


def subscribed(client, filter_, qos):
    client.subscribe(filter_, qos)
    return [int(getattr(code, "value", code)) for code in client.acks.get(timeout=WAIT_S)]


def messages(client, count):
    found = [client.seen.get(timeout=WAIT_S) for _ in range(count)]
    return [[m.topic, m.qos, m.payload.decode(), bool(m.retain)] for m in found]


def ended(client):
    client.disconnect()
    client.loop_stop()


result = {}
sub = connected(topic + "-sub")
result["connack"] = sub.code
result["suback"] = subscribed(sub, topic + "/live/#", 2)
pub = connected(topic + "-pub")
for qos in (0, 1, 2):
    pub.publish(f"{topic}/live/{qos}", f"qos {qos}", qos).wait_for_publish(WAIT_S)
result["live"] = sorted(messages(sub, 3))

pub.publish(topic + "/kept", "retained", 1, retain=True).wait_for_publish(WAIT_S)
subscribed(sub, topic + "/kept", 1)
result["retained"] = messages(sub, 1)

subscribed(sub, topic + "/will", 1)
victim = connected(topic + "-victim", will=topic + "/will")
victim.loop_stop()
victim._sock_close()
result["will"] = messages(sub, 1)

away = connected(topic + "-away", clean=False)
subscribed(away, topic + "/away", 1)
ended(away)
for number in range(5):
    pub.publish(topic + "/away", str(number), 1).wait_for_publish(WAIT_S)
back = connected(topic + "-away", clean=False)
result["session_present"] = back.session_present
result["away"] = [text for _, _, text, _ in messages(back, 5)]

if is_v5:
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = "text/plain"
    properties.UserProperty = [("k", "1"), ("k", "2")]
    pub.publish(topic + "/live/p", "x", 1, properties=properties).wait_for_publish(WAIT_S)
    seen = sub.seen.get(timeout=WAIT_S).properties
    result["properties"] = [seen.ContentType, [list(pair) for pair in seen.UserProperty]]

for client in (sub, pub, back):
    ended(client)
print(json.dumps(result))
