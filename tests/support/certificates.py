"""An authority, a certificate that it signs for 127.0.0.1, and a server that speaks TLS before one that does not."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from local.process import free_port


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
    """A port that speaks TLS, with this certificate, before the server at `port`."""
    made, loop = free_port(), asyncio.new_event_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)

    async def pumped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ssl.SSLError):
            while part := await reader.read(65_536):
                writer.write(part)
                await writer.drain()
        writer.close()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pumped(reader, inner_writer), pumped(inner_reader, writer))

    async def begun() -> asyncio.Server:
        return await asyncio.start_server(served, "127.0.0.1", made, ssl=context)

    server = loop.run_until_complete(begun())
    thread = threading.Thread(target=loop.run_forever, name="tls", daemon=True)
    thread.start()
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(_ended, loop, server)
        thread.join(10)
        loop.close()


def _ended(loop: asyncio.AbstractEventLoop, server: asyncio.Server) -> None:
    async def ended() -> None:
        server.close()
        left = [task for task in asyncio.all_tasks(loop) if task is not asyncio.current_task()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        loop.stop()

    loop.create_task(ended())
