"""An authority, a certificate that it signs for 127.0.0.1, and a server that speaks TLS before one that does not."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from local.process import Command, LocalProcess, answers, free_port
from tests.support.patience import wait_for

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Certificates:
    """Files of PEM: the authority's certificate, and a server's certificate and key, apart and in one."""

    authority: Path
    certificate: Path
    key: Path
    both: Path


def certificates(folder: Path) -> Certificates:
    """A new authority, and a certificate of its for localhost and 127.0.0.1."""
    folder.mkdir(parents=True, exist_ok=True)
    their_key, our_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _signed("an authority", their_key, their_key, None)
    server = _signed("localhost", our_key, their_key, authority)
    made = Certificates(*(folder / name for name in ("ca.pem", "server.pem", "server.key", "both.pem")))
    made.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    made.certificate.write_bytes(server.public_bytes(serialization.Encoding.PEM))
    unencrypted = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    made.key.write_bytes(our_key.private_bytes(serialization.Encoding.PEM, *unencrypted))
    made.both.write_bytes(made.key.read_bytes() + made.certificate.read_bytes())
    return made


def _signed(
    name: str,
    of: ec.EllipticCurvePrivateKey,
    by: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate | None,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.subject if authority is not None else subject)
        .public_key(of.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
        .add_extension(names, critical=False)
    )
    return builder.sign(by, hashes.SHA256())


@contextmanager
def speaking_tls(port: int, own: Certificates) -> Iterator[int]:
    """A port that speaks TLS, with this certificate, before the server at `port`: in a process of its own, which takes
    its connections with it."""
    made = free_port()
    argv = [sys.executable, "-m", "tests.support.certificates", str(made), str(port), str(own.both)]
    command = Command("tls", argv, lambda: answers(made), port=made)
    process = LocalProcess(command, own.both.with_name(f"tls-{made}.log"), ROOT)
    process.start()
    try:
        wait_for("TLS to be spoken", process.is_ready)
        yield made
    finally:
        process.stop()


async def _served(port: int, inner: int, both: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)

    async def pumped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ssl.SSLError):
            while part := await reader.read(65_536):
                writer.write(part)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", inner)
        await asyncio.gather(pumped(reader, inner_writer), pumped(inner_reader, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", port, ssl=context)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_served(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
