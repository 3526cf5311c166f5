#!/usr/bin/env python3
"""Waits for a Kafka broker and creates a topic.

usage: kafka_topic.py BOOTSTRAP TOPIC PARTITIONS [--timeout SECONDS]

Ready means that the broker answers Metadata: its port is open well before. A topic that exists is left as it is. Prints
`TOPIC has N partitions` once all of them have a leader; exits 1 with the cause otherwise. Run by the cache's Python.
"""

import argparse
import sys
import time

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("partitions", type=int)
    parser.add_argument("--timeout", type=float, default=60)
    args = parser.parse_args()
    deadline = time.monotonic() + args.timeout
    # A refused connection is what waiting looks like: no log line for each of them.
    admin = AdminClient({"bootstrap.servers": args.bootstrap, "reconnect.backoff.max.ms": 250}, logger=Quiet())
    retry(deadline, lambda: admin.list_topics(timeout=1))
    retry(deadline, lambda: create(admin, args.topic, args.partitions))
    count = retry(deadline, lambda: led_partitions(admin, args.topic))
    print(f"{args.topic} has {count} partitions")


def create(admin, topic, partitions):
    try:
        admin.create_topics([NewTopic(topic, partitions, 1)], request_timeout=5)[topic].result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def led_partitions(admin, topic):
    partitions = admin.list_topics(topic, timeout=1).topics[topic].partitions
    if not partitions or any(p.leader < 0 for p in partitions.values()):
        raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
    return len(partitions)


def retry(deadline, attempt):
    while True:
        try:
            return attempt()
        except KafkaException as error:
            if time.monotonic() > deadline:
                sys.exit(f"kafka_topic: {error.args[0].str()}")
            time.sleep(0.1)


class Quiet:
    """What librdkafka would log."""

    def log(self, *_):
        pass


if __name__ == "__main__":
    main()
