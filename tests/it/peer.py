#!/usr/bin/env python3
"""librdkafka as the other side of the tests. One JSON order a line on stdin, one JSON answer a line on stdout.

usage: peer.py HOST:PORT. Bytes travel as hexadecimal text, null as null; an answer with "error" is a failure.
"""

import json
import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
)

LIMIT = 30.0
BOOTSTRAP = {"bootstrap.servers": sys.argv[1], "socket.connection.setup.timeout.ms": 3000, "log_level": 2}


def ping(_):
    # A client of its own: one that met a dead broker before waits out its pause between connections.
    AdminClient(BOOTSTRAP).list_topics(timeout=2.0)
    return {}


def create_topic(order):
    admin = AdminClient(BOOTSTRAP)  # held: the answer never comes to a client that is gone
    topic = NewTopic(order["topic"], order["partitions"], 1, config=order.get("settings", {}))
    admin.create_topics([topic])[order["topic"]].result(LIMIT)
    # A leader that Metadata names may not know of it yet: usable is a partition that tells its end.
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            state = len(end_offsets(order)["offsets"])
        except KafkaException as error:
            state = error
        if state == order["partitions"]:
            return {}
        if time.monotonic() > deadline:
            raise TimeoutError(f"{order['topic']} is not usable after {LIMIT} s: {state}")
        time.sleep(0.05)


def alter_topic(order):
    admin = AdminClient(BOOTSTRAP)
    entry = ConfigEntry(order["name"], order["value"], incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, order["topic"], incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result(LIMIT)
    return {}


def topic_settings(order):
    admin = AdminClient(BOOTSTRAP)
    resource = ConfigResource(ConfigResource.Type.TOPIC, order["topic"])
    found = admin.describe_configs([resource])[resource].result(LIMIT)
    return {"settings": {name: entry.value for name, entry in found.items()}}


def topics(_):
    return {"topics": list(AdminClient(BOOTSTRAP).list_topics(timeout=LIMIT).topics)}


def leaders(topic):
    partitions = AdminClient(BOOTSTRAP).list_topics(topic, timeout=LIMIT).topics[topic].partitions
    return [index for index, partition in partitions.items() if partition.leader >= 0]


def reader(group="peer"):
    return Consumer(BOOTSTRAP | {"group.id": group, "enable.auto.commit": False, "check.crcs": True})


def committed(order):
    client = reader(order["group"])
    asked = [TopicPartition(order["topic"], index) for index in leaders(order["topic"])]
    found = client.committed(asked, timeout=LIMIT)
    client.close()
    failed = [partition.error for partition in found if partition.error]
    if failed:
        raise RuntimeError(failed[0])
    return {"offsets": {partition.partition: partition.offset for partition in found if partition.offset >= 0}}


def end_offsets(order):
    client = reader()
    topic = order["topic"]
    ends = {i: client.get_watermark_offsets(TopicPartition(topic, i), timeout=LIMIT)[1] for i in leaders(topic)}
    client.close()
    return {"offsets": ends}


def produce(order):
    failed = []
    client = Producer(BOOTSTRAP | {"acks": "all"})
    client.produce(
        order["topic"],
        partition=order["partition"],
        key=unhex(order["key"]),
        value=unhex(order["value"]),
        headers=[(name, unhex(value)) for name, value in order.get("headers", [])],
        on_delivery=lambda error, _: failed.append(error) if error else None,
    )
    if client.flush(LIMIT) or failed:
        raise RuntimeError(f"not delivered: {failed}")
    return {}


def consume(order):
    client = reader()
    place = TopicPartition(order["topic"], order["partition"])
    start, end = client.get_watermark_offsets(place, timeout=LIMIT)
    place.offset = start
    client.assign([place])
    records, deadline = [], time.monotonic() + LIMIT
    while len(records) < end - start:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(records)} of {end - start} records after {LIMIT} s")
        for record in client.consume(500, 1.0):
            if record.error():
                raise RuntimeError(record.error())
            records.append(
                {
                    "offset": record.offset(),
                    "timestamp": record.timestamp()[1],
                    "key": tohex(record.key()),
                    "value": tohex(record.value()),
                    "headers": [[name, tohex(value)] for name, value in record.headers() or []],
                }
            )
    client.close()
    return {"records": records}


def unhex(text):
    return None if text is None else bytes.fromhex(text)


def tohex(data):
    return None if data is None else data.hex()


OPS = {
    op.__name__: op
    for op in (ping, create_topic, alter_topic, topic_settings, topics, committed, end_offsets, produce, consume)
}

for line in sys.stdin:
    try:
        order = json.loads(line)
        answer = OPS[order["op"]](order)
    except Exception as error:  # every failure is an answer; the test decides
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
