"""Kafka: records in, dead letters out. The only importer of `confluent_kafka`. Knows no use case."""

from headrace.adapters.kafka.broker import Broker, Security, broker
from headrace.adapters.kafka.consumer import RecordConsumer
from headrace.adapters.kafka.dead_letters import DeadLetters
from headrace.adapters.kafka.letter_box import KafkaLetterBox
from headrace.adapters.kafka.records import Record, Topics

__all__ = ["Broker", "DeadLetters", "KafkaLetterBox", "Record", "RecordConsumer", "Security", "Topics", "broker"]
