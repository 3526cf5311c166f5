#!/usr/bin/env python3
"""Records what librdkafka and a broker say to each other about a group: the bytes that tests/golden.rs compares with.

usage: capture.py BROKER_PORT LISTEN_PORT > group.txt

Forwards LISTEN_PORT to the broker on BROKER_PORT, whose advertised listener must be LISTEN_PORT, runs two members through
it, and prints a line for each message: `request|response API VERSION CLIENT BODY`, the body as hexadecimal digits without
headers. The answer to ApiVersions is changed on its way: librdkafka shall speak the versions that this project speaks.

  KAFKA_REBALANCE_DELAY_MS=0 KAFKA_PROPERTIES=advertised.listeners=PLAINTEXT://127.0.0.1:9393 \\
      dev/kafka-server 9392 9394 DIR & tests/data/librdkafka/capture.py 9392 9393 > tests/data/librdkafka/group.txt
"""

import socket
import struct
import sys
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

# API key: name, the version to speak.
APIS = {
    8: ("OffsetCommit", 7),
    9: ("OffsetFetch", 5),
    10: ("FindCoordinator", 2),
    11: ("JoinGroup", 5),
    12: ("Heartbeat", 3),
    13: ("LeaveGroup", 2),
    14: ("SyncGroup", 3),
}
API_VERSIONS = 18
TOPIC = "golden"
lock = threading.Lock()
lines = []


def read(stream, length):
    data = bytearray()
    while len(data) < length:
        part = stream.recv(length - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


def frame(stream):
    return read(stream, struct.unpack(">i", read(stream, 4))[0])


def send(stream, body):
    stream.sendall(struct.pack(">i", len(body)) + body)


def serve(client, broker_port):
    broker = socket.create_connection(("127.0.0.1", broker_port))
    asked = {}

    def requests():
        try:
            while True:
                body = frame(client)
                key, version, correlation, name = struct.unpack(">hhih", body[:10])
                client_id = body[10 : 10 + name].decode()
                asked[correlation] = (key, version, client_id)
                record("request", asked[correlation], body[10 + name :])
                send(broker, body)
        except (EOFError, OSError):
            broker.close()

    def responses():
        try:
            while True:
                body = frame(broker)
                place = asked.pop(struct.unpack(">i", body[:4])[0])
                record("response", place, body[4:])
                send(client, capped(body) if place[0] == API_VERSIONS else body)
        except (EOFError, OSError):
            client.close()

    threading.Thread(target=requests, daemon=True).start()
    threading.Thread(target=responses, daemon=True).start()


def record(what, place, body):
    key, version, client_id = place
    if key in APIS:
        with lock:
            lines.append((what, APIS[key][0], version, client_id, body.hex()))


def capped(body):
    """ApiVersions v3: correlation, error, a compact array of key, least, most and no tags."""
    body = bytearray(body)
    if struct.unpack(">h", body[4:6])[0] == 0:
        for place in range(7, 7 + 7 * (body[6] - 1), 7):
            key, least, most = struct.unpack(">hhh", body[place : place + 6])
            if key in APIS:
                struct.pack_into(">h", body, place + 4, max(least, min(most, APIS[key][1])))
    return bytes(body)


def main():
    broker_port, port = int(sys.argv[1]), int(sys.argv[2])
    listener = socket.create_server(("127.0.0.1", port))

    def accept():
        while True:
            serve(listener.accept()[0], broker_port)

    threading.Thread(target=accept, daemon=True).start()
    bootstrap = {"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 3}
    admin = AdminClient(bootstrap | {"client.id": "admin"})
    admin.create_topics([NewTopic(TOPIC, 4, 1)])[TOPIC].result(30)
    producer = Producer(bootstrap | {"client.id": "producer"})
    for number in range(40):
        producer.produce(TOPIC, str(number), partition=number % 4)
    producer.flush(30)

    def member(name, **more):
        settings = {
            "client.id": name,
            "group.id": "golden-group",
            "session.timeout.ms": 30000,
            "max.poll.interval.ms": 60000,
            "heartbeat.interval.ms": 500,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
        consumer = Consumer(bootstrap | settings | more)
        consumer.subscribe([TOPIC])
        return consumer

    def until(members, sizes):
        deadline = time.monotonic() + 60
        while [len(consumer.assignment()) for consumer in members] != sizes:
            assert time.monotonic() < deadline, "no assignment"
            for consumer in members:
                consumer.poll(0.05)

    first = member("first")
    until([first], [4])
    first.commit(offsets=[TopicPartition(TOPIC, 0, 3, "a note"), TopicPartition(TOPIC, 2, 5)], asynchronous=False)
    second = member("second", **{"group.instance.id": "fixed"})
    until([first, second], [2, 2])
    second.commit(offsets=[TopicPartition(TOPIC, 3, 7)], asynchronous=False)
    end = time.monotonic() + 1.2  # for heartbeats
    while time.monotonic() < end:
        first.poll(0.1)
        second.poll(0.1)
    first.close()
    second.close()
    seen = set()
    for line in lines:
        if line[3] in ("first", "second"):
            what = (line[0], line[1], line[3], line[4])
            if line[1] != "Heartbeat" or what not in seen:
                print(*line)
            seen.add(what)


main()
