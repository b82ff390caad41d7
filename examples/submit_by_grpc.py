"""Submits a job by gRPC. Imports nothing of Headrace: the server's reflection says which messages there are. A service
would rather have a client generated from api/rpc/headrace.proto.
"""

import argparse
from pathlib import Path

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICE = "headrace.v1.Headrace"
TIMEOUT_SECONDS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True, help="host:port of HEADRACE_GRPC_PORT")
    parser.add_argument("--key-file", required=True, type=Path, help="the API key, in the first line")
    parser.add_argument("--template-id", required=True)
    parser.add_argument("--job-id", required=True)
    parser.add_argument("--idempotency-key")
    arguments = parser.parse_args()
    fields = {"template_id": arguments.template_id, "job_id": arguments.job_id}
    if arguments.idempotency_key:
        fields["idempotency_key"] = arguments.idempotency_key
    key = arguments.key_file.read_text().split()[0]
    with grpc.insecure_channel(arguments.address) as channel:
        methods = DescriptorPool(ProtoReflectionDescriptorDatabase(channel)).FindServiceByName(SERVICE).methods_by_name
        request, answer = GetMessageClass(methods["Submit"].input_type), GetMessageClass(methods["Submit"].output_type)
        submit = channel.unary_unary(
            f"/{SERVICE}/Submit",
            request_serializer=request.SerializeToString,
            response_deserializer=answer.FromString,
        )
        metadata = [("authorization", f"Bearer {key}")]
        accepted = submit(json_format.ParseDict(fields, request()), metadata=metadata, timeout=TIMEOUT_SECONDS)
    print(json_format.MessageToJson(accepted, preserving_proto_field_name=True, indent=None))


if __name__ == "__main__":
    main()
