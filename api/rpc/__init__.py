"""The gRPC front: the same operations and reads as by HTTP, from the same door. headrace_pb2.py is generated."""
