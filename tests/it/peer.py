#!/usr/bin/env python3
"""librdkafka as the other side of the tests. One JSON order a line on stdin, one JSON answer a line on stdout.

usage: peer.py HOST:PORT. Bytes travel as hexadecimal text, null as null; an answer with "error" is a failure.
"""

import itertools
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

LIMIT = 30.0
BOOTSTRAP = {"bootstrap.servers": sys.argv[1], "socket.connection.setup.timeout.ms": 3000, "log_level": 2}


def ping(order):
    # A client of its own: one that met a dead broker before waits out its pause between connections.
    AdminClient(BOOTSTRAP | {"bootstrap.servers": order["address"]}).list_topics(timeout=5.0)
    return {}


def create_topic(order):
    admin = AdminClient(BOOTSTRAP)  # held: the answer never comes to a client that is gone
    settings = order.get("settings", {})
    if replicas := order.get("replicas"):
        topic = NewTopic(order["topic"], order["partitions"], replica_assignment=replicas, config=settings)
    else:
        topic = NewTopic(order["topic"], order["partitions"], order.get("replication", 1), config=settings)
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


def delete_topic(order):
    admin = AdminClient(BOOTSTRAP)
    admin.delete_topics([order["topic"]])[order["topic"]].result(LIMIT)
    return {}


def grow_topic(order):
    admin = AdminClient(BOOTSTRAP)
    admin.create_partitions([NewPartitions(order["topic"], order["partitions"])])[order["topic"]].result(LIMIT)
    return {}


def replicas(order):
    """The leader and the number of replicas in sync, by partition."""
    topic = AdminClient(BOOTSTRAP).list_topics(order["topic"], timeout=LIMIT).topics[order["topic"]]
    return {"partitions": {index: [found.leader, len(found.isrs)] for index, found in topic.partitions.items()}}


def coordinator(order):
    admin = AdminClient(BOOTSTRAP)
    group = admin.describe_consumer_groups([order["group"]])[order["group"]].result(LIMIT)
    return {"node": group.coordinator.id}


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


def grant(order):
    """Allows a user an operation on a resource, from everywhere."""
    admin = AdminClient(BOOTSTRAP)
    binding = AclBinding(
        ResourceType[order["resource"]],
        order["name"],
        ResourcePatternType.LITERAL,
        f"User:{order['user']}",
        "*",
        AclOperation[order["operation"]],
        AclPermissionType.ALLOW,
    )
    admin.create_acls([binding])[binding].result(LIMIT)
    # The controller has it; the broker, which decides and which is asked here, takes it over a moment later.
    wanted = AclBindingFilter(
        binding.restype,
        binding.name,
        binding.resource_pattern_type,
        binding.principal,
        binding.host,
        binding.operation,
        binding.permission_type,
    )
    deadline = time.monotonic() + LIMIT
    while not admin.describe_acls(wanted).result(LIMIT):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{binding} is not in force after {LIMIT} s")
        time.sleep(0.05)
    return {}


def add_scram(order):
    """Makes a user with this password known by both SCRAM mechanisms."""
    admin, password = AdminClient(BOOTSTRAP), order["password"].encode()
    for mechanism in ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512:
        change = UserScramCredentialUpsertion(order["user"], ScramCredentialInfo(mechanism, 4096), password)
        admin.alter_user_scram_credentials([change])[order["user"]].result(LIMIT)
    return {}


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
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            ends = {i: client.get_watermark_offsets(TopicPartition(topic, i), timeout=LIMIT)[1] for i in leaders(topic)}
            break
        except KafkaException as error:
            # A broker that has just started is no leader yet.
            moved = error.args[0].code() == KafkaError.NOT_LEADER_FOR_PARTITION
            if not moved or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    client.close()
    return {"offsets": ends}


def describe(order):
    """Members of a group with what each holds, and the group's state."""
    admin = AdminClient(BOOTSTRAP)  # held, as above
    group = admin.describe_consumer_groups([order["group"]])[order["group"]].result(LIMIT)
    members = {
        member.member_id: {
            "instance": member.group_instance_id,
            "partitions": placed(member.assignment.topic_partitions),
        }
        for member in group.members
    }
    return {"state": group.state.name, "members": members}


def shapes(order):
    """Forms a group for each shape, `{"strategy", "members": [[topic]], "fixed"}`, and tells who got what."""
    with ThreadPoolExecutor(4) as pool:
        return {"shapes": list(pool.map(shape, order["shapes"], itertools.count()))}


def shape(wanted, number):
    group = f"shape-{os.getpid()}-{number}"
    settings = BOOTSTRAP | {
        "group.id": group,
        "partition.assignment.strategy": wanted["strategy"],
        "heartbeat.interval.ms": 200,
        "session.timeout.ms": 6000,
    }
    members = []
    for index, topics in enumerate(wanted["members"]):
        fixed = {"group.instance.id": f"i{index * 7 % 10}"} if wanted["fixed"] else {}
        member = Consumer(settings | fixed)
        member.subscribe(topics)
        members.append((member, topics))
    deadline = time.monotonic() + LIMIT
    while True:
        for member, _ in members:
            member.poll(0.01)
        found = describe({"group": group})
        shares = {member.memberid(): placed(member.assignment()) for member, _ in members}
        told = {name: member["partitions"] for name, member in found["members"].items()}
        if found["state"] == "STABLE" and len(found["members"]) == len(members) and shares == told:
            break
        if time.monotonic() > deadline:
            raise TimeoutError(f"no group of {wanted} after {LIMIT} s: {found} {shares}")
    answer = [found["members"][member.memberid()] | {"id": member.memberid(), "topics": topics} for member, topics in members]
    for member, _ in members:
        member.close()
    return answer


def placed(partitions):
    return sorted([partition.topic, partition.partition] for partition in partitions)


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


def produce_many(order):
    """{topic, config, records: [{partition, key, value, headers, timestamp}]}: one producer, its batches as large as
    its configuration lets them become."""
    failed = []
    client = Producer(BOOTSTRAP | {"acks": "all"} | order.get("config", {}))
    for record in order["records"]:
        place = {"partition": record["partition"]}
        if record.get("timestamp") is not None:
            place["timestamp"] = record["timestamp"]
        while True:
            try:
                client.produce(
                    order["topic"],
                    key=unhex(record.get("key")),
                    value=unhex(record.get("value")),
                    headers=[(name, unhex(value)) for name, value in record.get("headers", [])],
                    on_delivery=lambda error, _: failed.append(error) if error else None,
                    **place,
                )
                break
            except BufferError:
                client.poll(0.5)
    if client.flush(2 * LIMIT) or failed:
        raise RuntimeError(f"not delivered: {failed[:1]}")
    return {}


def produce_events(order):
    """{topic, partition, count, size, config, event_time, fields}: events with a text of `size` bytes that compresses well in
    each of the fields by turns (in metadata), as large batches as the configuration lets them become."""
    failed = []
    fields = order.get("fields", ["metadata"])
    client = Producer(BOOTSTRAP | {"acks": "all"} | order.get("config", {}))
    for index in range(order["count"]):
        text = f"{index:08d} governs the prompt; "
        event = {
            "event_id": f"{order['partition']:08x}-0000-4000-8000-{index:012x}",
            "event_type": "audit",
            "org_id": f"org-{index % 50}",
            "event_time": order.get("event_time") or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            fields[index % len(fields)]: (text * (order["size"] // len(text) + 1))[: order["size"]],
        }
        while True:
            try:
                client.produce(
                    order["topic"],
                    partition=order["partition"],
                    value=json.dumps(event).encode(),
                    on_delivery=lambda error, _: failed.append(error) if error else None,
                )
                break
            except BufferError:
                client.poll(0.5)
    if client.flush(2 * LIMIT) or failed:
        raise RuntimeError(f"not delivered: {failed[:1]}")
    return {}


TRANSACTIONAL = {}


def transact(order):
    """{steps: [[producer, "begin" | "commit" | "abort" | "flush"] or [producer, "send", topic, partition, value]]}.
    The producers live on between orders, and with them an open transaction."""
    for name, step, *rest in order["steps"]:
        if name not in TRANSACTIONAL:
            config = {"transactional.id": name, "compression.type": "lz4", "linger.ms": 0}
            TRANSACTIONAL[name] = Producer(BOOTSTRAP | config)
            TRANSACTIONAL[name].init_transactions(LIMIT)
        client = TRANSACTIONAL[name]
        if step == "begin":
            client.begin_transaction()
        elif step == "commit":
            client.commit_transaction(LIMIT)
        elif step == "abort":
            # What is still in the queue would be purged, not aborted.
            client.flush(LIMIT)
            client.abort_transaction(LIMIT)
        elif step == "flush":
            client.flush(LIMIT)
        else:
            topic, partition, value = rest
            client.produce(topic, partition=partition, value=value.encode())
    return {}


def delete_records(order):
    """Moves the log's start up: {topic, offsets: {partition: first offset that stays}}."""
    admin = AdminClient(BOOTSTRAP)
    asked = [TopicPartition(order["topic"], int(index), offset) for index, offset in order["offsets"].items()]
    for future in admin.delete_records(asked).values():
        future.result(LIMIT)
    return {}


def commit_offsets(order):
    """Commits for a group without members: {group, topic, offsets: {partition: offset}, notes: {partition: text}}."""
    client = reader(order["group"])
    notes = order.get("notes", {})
    offsets = [
        TopicPartition(order["topic"], int(index), offset, notes.get(index, ""))
        for index, offset in order["offsets"].items()
    ]
    failed = [place.error for place in client.commit(offsets=offsets, asynchronous=False) if place.error]
    client.close()
    if failed:
        raise RuntimeError(failed[0])
    return {}


OPS = (
    ping,
    create_topic,
    delete_topic,
    grow_topic,
    replicas,
    coordinator,
    committed,
    end_offsets,
    describe,
    shapes,
    produce,
    consume,
    produce_many,
    produce_events,
    transact,
    delete_records,
    commit_offsets,
    alter_topic,
    topic_settings,
    grant,
    add_scram,
    topics,
)
OPS = {op.__name__: op for op in OPS}

for line in sys.stdin:
    try:
        order = json.loads(line)
        answer = OPS[order["op"]](order)
    except Exception as error:  # every failure is an answer; the test decides
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
