"""Submits a job with a bare Celery producer: what any service that has Celery can do. Imports nothing of Headrace."""

import argparse
import json

from celery import Celery


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", required=True, help="redis://host:port/0")
    parser.add_argument("--template-id", required=True)
    parser.add_argument("--job-id", required=True)
    parser.add_argument("--idempotency-key")
    arguments = parser.parse_args()
    fields = {
        "template_id": arguments.template_id,
        "job_id": arguments.job_id,
        "job_config": {},
        "idempotency_key": arguments.idempotency_key,
    }
    with Celery(broker=arguments.broker) as app:
        app.conf.task_ignore_result = True
        sent = app.send_task("flink.submit", kwargs=fields, queue="flink.operations", ignore_result=True)
    print(json.dumps({"task_id": sent.id}))


if __name__ == "__main__":
    main()
