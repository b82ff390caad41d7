"""The records of Headrace in MongoDB: the only importer of pymongo. Knows no use case."""

from headrace.adapters.mongo.migrations import migrate
from headrace.adapters.mongo.store import MongoStore, connect

__all__ = ["MongoStore", "connect", "migrate"]
