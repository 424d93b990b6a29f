"""A producer that shares no code with hookwright: Avro by fastavro, Kafka by confluent-kafka.

Writes `WebhookEvent` v1 records as raw datums (no framing) and waits until all replicas have them.
Prints how many were delivered; exits 1 unless all were.
"""

import argparse
import io
import sys

from confluent_kafka import KafkaException, Producer
from fastavro import parse_schema, schemaless_writer

# Written out again rather than read from schemas/: this is what producers out there already use.
SCHEMA = parse_schema(
    {
        "type": "record",
        "namespace": "com.yotpo.platform.webhookdelivery.messages",
        "name": "WebhookEvent",
        "fields": [
            {"name": "event_type", "type": "string"},
            {"name": "payload", "type": "string"},
        ],
    }
)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--brokers", required=True, help="host:port[,host:port]")
    parser.add_argument("--topic", required=True)
    parser.add_argument("--type", required=True, help="event type")
    parser.add_argument("--payload-file", required=True, help="UTF-8, taken byte for byte")
    parser.add_argument("--count", type=int, default=1, help="how many times (default 1)")
    return parser.parse_args()


def main():
    args = arguments()
    with open(args.payload_file, "rb") as file:
        payload = file.read().decode("utf-8")
    datum = io.BytesIO()
    schemaless_writer(datum, SCHEMA, {"event_type": args.type, "payload": payload})
    datum = datum.getvalue()

    delivered = 0
    failures = []

    def on_delivery(error, _message):
        nonlocal delivered
        if error is None:
            delivered += 1
        else:
            failures.append(error)

    producer = Producer(
        {
            "bootstrap.servers": args.brokers,
            "acks": "all",
            "message.max.bytes": 16 * 1024 * 1024,
            "message.timeout.ms": 30_000,
            "linger.ms": 5,
        }
    )
    for _ in range(args.count):
        while True:
            try:
                producer.produce(args.topic, value=datum, on_delivery=on_delivery)
                break
            except BufferError:  # the local queue is full: let it drain
                producer.poll(0.1)
        producer.poll(0)
    producer.flush()

    print(delivered)
    if failures:
        print(f"{len(failures)} not delivered, the first because: {failures[0]}", file=sys.stderr)
    return 0 if delivered == args.count else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, UnicodeDecodeError, KafkaException) as error:
        sys.exit(f"produce_v1: {error}")
