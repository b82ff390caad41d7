"""Secrets by their form, each around a canary: what any of them must not do is to be found again."""

from __future__ import annotations

from collections.abc import Mapping

CANARY = "canary9d41c7"
LONG = f"{CANARY}{'a1B2' * 8}"

SHAPES: Mapping[str, str] = {
    "user-info of a database": f"postgres://app:{CANARY}@db/orders",
    "password without a user": f"redis://:{CANARY}@cache:6379/0",
    "token before a host": f"https://{CANARY}@files.example.com/x",
    "password in a query": f"jdbc:postgresql://db/orders?user=app&password={CANARY}",
    "password behind a semicolon": f"jdbc:sqlserver://db;user=app;password={CANARY}",
    "oracle's way": f"jdbc:oracle:thin:scott/{CANARY}@//db:1521/orders",
    "go's way": f"app:{CANARY}@tcp(db:3306)/orders",
    "connection string": f"Server=db;Uid=app;Pwd={CANARY};",
    "storage account": f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={LONG}==;",
    "service bus": f"Endpoint=sb://a/;SharedAccessKeyName=r;SharedAccessKey={LONG}=",
    "signed by S3": f"https://b.s3.amazonaws.com/x?X-Amz-Signature={LONG}",
    "signed by Azure": f"https://a.blob.core.windows.net/x?sv=2024&sig={LONG}",
    "JAAS": f'org.apache.kafka.common.security.plain.PlainLoginModule required username="a" password="{CANARY}";',
    "private key": f"-----BEGIN RSA PRIVATE KEY-----\n{LONG}\n-----END RSA PRIVATE KEY-----",
    "bearer": f"Bearer {LONG}",
    "basic": f"Authorization: Basic {LONG}=",
    "JSON": f'{{"user": "app", "password": "{CANARY}"}}',
    "property": f"-Djavax.net.ssl.keyStorePassword={CANARY}",
    "GitHub": f"ghp_{LONG}",
    "JWT": f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx{CANARY}In0.{LONG}",
    "Slack's hook": f"https://hooks.slack.com/services/T0/B0/{CANARY}",
    "assignment": f"api_key={CANARY}",
}
"""Each holds the canary, in the case that it has here."""
