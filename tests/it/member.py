#!/usr/bin/env python3
"""A group member on librdkafka. Events on stdout, one JSON object a line; SIGTERM makes it leave cleanly.

usage: member.py '{"settings": {...}, "topics": [...], "table": {"url": ..., "name": "db.events", "user": ..., "password": ...}}'

With a table it does what a simple Python bridge does: collects messages, inserts them as JSONEachRow when there are 2,000
of them or after a second, and commits synchronously after the insert. Without one it only holds partitions.
"""

import json
import signal
import sys
import time
import urllib.parse
import urllib.request

from confluent_kafka import Consumer, KafkaException

BATCH_ROWS = 2000
BATCH_SECONDS = 1.0




def tell(event, **fields):
    print(json.dumps({"msg": event, "at": time.time()} | fields), flush=True)


def placed(partitions):
    return sorted([partition.topic, partition.partition] for partition in partitions)


def insert(table, rows):
    query = {
        "query": f"INSERT INTO {table['name']} FORMAT JSONEachRow",
        "date_time_input_format": "best_effort",
        "input_format_skip_unknown_fields": "1",
        "input_format_json_read_objects_as_strings": "1",
        "input_format_json_read_numbers_as_strings": "1",
    }
    headers = {"X-ClickHouse-User": table["user"], "X-ClickHouse-Key": table["password"]}
    url = f"{table['url']}/?{urllib.parse.urlencode(query)}"
    urllib.request.urlopen(urllib.request.Request(url, b"\n".join(rows), headers), timeout=30).read()


def main():
    order = json.loads(sys.argv[1])
    table = order.get("table")
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    consumer = Consumer(order["settings"] | {"enable.auto.commit": False, "log_level": 3})
    consumer.subscribe(
        order["topics"],
        on_assign=lambda _, partitions: tell("assigned", partitions=placed(partitions)),
        on_revoke=lambda _, partitions: tell("revoked", partitions=placed(partitions)),
        on_lost=lambda _, partitions: tell("lost", partitions=placed(partitions)),
    )
    rows, since = [], None

    def flush():
        nonlocal rows, since
        if rows:
            insert(table, rows)
            rows, since = [], None
            try:
                consumer.commit(asynchronous=False)
            except KafkaException as error:  # the partitions are another member's: it reads these events again
                tell("not committed", error=str(error))

    tell("started")
    while not stopping:
        for message in consumer.consume(BATCH_ROWS - len(rows), 0.1):
            if message.error():
                tell("error", error=str(message.error()))
            elif table:
                since = since or time.monotonic()
                rows.append(message.value())
        if since and (len(rows) >= BATCH_ROWS or time.monotonic() - since >= BATCH_SECONDS):
            flush()
    flush()
    consumer.close()
    tell("left")


main()
