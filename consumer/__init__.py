"""The Kafka consumer: records that name an operation become operations."""
