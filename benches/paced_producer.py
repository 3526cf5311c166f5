#!/usr/bin/env python3
"""Produces one event at a time, evenly, each with the time of its sending as event_time. Run by the cache's Python.

usage: paced_producer.py BOOTSTRAP TOPIC RATE SECONDS < one event as JSON, the pattern of all
"""

import datetime
import json
import sys
import time
import uuid

from confluent_kafka import Producer


def main():
    bootstrap, topic, rate, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
    pattern = json.loads(sys.stdin.readline())
    failed = []
    # lz4 and a key as the API's producer has them; an event leaves at once.
    client = Producer({"bootstrap.servers": bootstrap, "acks": "1", "linger.ms": 0, "compression.type": "lz4"})
    client.list_topics(topic, timeout=10)
    began = time.monotonic()
    count = int(rate * seconds)
    for number in range(count):
        due = began + number / rate
        while (left := due - time.monotonic()) > 0:
            client.poll(left)
        now = datetime.datetime.now(datetime.timezone.utc)
        pattern["event_id"] = str(uuid.uuid4())
        pattern["event_time"] = now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03}Z"
        client.produce(topic, key=f"org-{number % 50}", value=json.dumps(pattern).encode(),
                       on_delivery=lambda error, _: failed.append(error) if error else None)
        client.poll(0)
    took = time.monotonic() - began
    if client.flush(30) or failed:
        sys.exit(f"not delivered: {failed[:1]}")
    print(f"{count} {took:.1f}")


if __name__ == "__main__":
    main()
