"""An endpoint for vmq_webhooks with Python's standard library; what it answers: ../README.md"""
import hashlib
import hmac
import json
import os
import re
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = os.environ.get("WEBHOOK_SECRET", "").encode()
OK = {"result": "ok"}


def refused(error):
    return {"result": {"error": error}}


def is_private(topic):
    return topic.split("/")[0] == "private"


def register(call):
    if call["username"] == "alice" and call["password"] == "secret":
        return OK
    return refused("invalid_credentials")


def publish(call):
    topic = call["topic"]
    if is_private(topic):
        return refused("not_authorized")
    if topic.startswith("old/"):
        return {"result": "ok", "modifiers": {"topic": "new/" + topic[4:]}}
    return OK


# Answered in the order of the request. Refusals: 128 for MQTT 3.1.1, a reason code for MQTT 5.
def filters(topics, refusal):
    return [
        {"topic": one["topic"], "qos": refusal} if is_private(one["topic"]) else one
        for one in topics
    ]


HOOKS = {
    "auth_on_register": register,
    "auth_on_register_m5": register,
    "auth_on_publish": publish,
    "auth_on_publish_m5": publish,
    "auth_on_subscribe": lambda call: {"result": "ok", "topics": filters(call["topics"], 128)},
    "auth_on_subscribe_m5": lambda call: {
        "result": "ok",
        "modifiers": {"topics": filters(call["topics"], 135)},
    },
}


def is_signed(header, hook, body):
    found = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", header or "")
    if found is None or abs(time.time() - int(found[1])) > 300:
        return False
    signed = f"{found[1]}.{hook}.".encode() + body
    return hmac.compare_digest(found[2], hmac.new(SECRET, signed, hashlib.sha256).hexdigest())


class Handler(BaseHTTPRequestHandler):
    # Keeps connections open between requests.
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # One write per answer.
    wbufsize = -1

    def do_POST(self):
        hook = self.headers.get("vernemq-hook", "")
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if SECRET and not is_signed(self.headers.get("nautilus-signature"), hook, body):
            return self.answer(401, {})
        call = json.loads(body)
        if hook in HOOKS:
            return self.answer(200, HOOKS[hook](call), hook)
        print(hook, body.decode(), flush=True)
        return self.answer(200, {})

    def answer(self, status, document, hook=""):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        if hook.startswith("auth_on_register") and document == OK:
            self.send_header("cache-control", "max-age=60")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()
