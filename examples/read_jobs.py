"""Prints the jobs and their histories of phases as MongoDB has them, in JSON. Imports nothing of Headrace."""

import argparse
import json

from pymongo import MongoClient


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mongodb", required=True, help="mongodb://host:port")
    parser.add_argument("--database", default="headrace")
    arguments = parser.parse_args()
    with MongoClient(arguments.mongodb, serverSelectionTimeoutMS=5000, socketTimeoutMS=10000) as client:
        database = client[arguments.database]
        jobs = list(database.jobs.find({}))
        transitions = list(database.transitions.find({}))
    print(json.dumps({"jobs": [_job(j) for j in jobs], "transitions": [_transition(t) for t in transitions]}))


def _job(job: dict) -> dict:
    fields = (
        "job_id",
        "phase",
        "run",
        "parallelism",
        "flink_job_id",
        "savepoint_path",
        "reason",
        "next_step",
        "observation",
    )
    return {field: job.get(field) for field in fields}


def _transition(transition: dict) -> dict:
    return {
        "job_id": transition["job_id"],
        "from": transition["from_phase"],
        "to": transition["to_phase"],
        "at": transition["at"].isoformat(),
        "reason": transition["reason"],
    }


if __name__ == "__main__":
    main()
