"""Submits a job by a Kafka record that names the operation. Imports nothing of Headrace."""

import argparse
import json

from confluent_kafka import Producer

DELIVERY_TIMEOUT_SECONDS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--topic", default="headrace.operations")
    parser.add_argument("--template-id", required=True)
    parser.add_argument("--job-id", required=True)
    arguments = parser.parse_args()
    record = {"operation": "SUBMIT", "template_id": arguments.template_id, "job_id": arguments.job_id}
    errors: list[str] = []
    producer = Producer({"bootstrap.servers": arguments.bootstrap_servers, "message.timeout.ms": 30_000})
    producer.produce(
        arguments.topic,
        key=arguments.job_id,
        value=json.dumps(record).encode(),
        on_delivery=lambda error, _message: errors.append(str(error)) if error else None,
    )
    left = producer.flush(DELIVERY_TIMEOUT_SECONDS)
    if errors or left:
        raise SystemExit(f"the record was not delivered: {errors or 'no answer from the broker'}")


if __name__ == "__main__":
    main()
